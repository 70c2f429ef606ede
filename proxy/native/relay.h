// A relay: two connections joined in native code until both sides have ended. TypeScript keeps its levers (pause,
// resume, deadline, unrelay, reset) and sees live byte counts in the metrics slab.
#pragma once
#include <cstddef>
#include <cstdint>

#include "connection.h"
#include "pipes.h"

namespace ferrule {

class Engine;

// Bytes flowing one way.
struct Direction {
  Connection* from = nullptr;
  Connection* to = nullptr;
  Pipe* pipe = nullptr;      // while this direction splices
  uint32_t chunk = 0;        // size of the next read when copying
  uint32_t bulkyBytes = 0;   // moved in full reads without a pause between them
  uint32_t smallSplices = 0;
  bool ended = false;        // `from` will send no more, and `to` has been told or will be when drained
  bool finished = false;     // … and has been told
};

struct Relay {
  Relay(Engine& engine, Connection& a, Connection& b);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Moves what can be moved after readiness of `connection` changed.
  void serve(Connection& connection);
  // Gives both connections back to TypeScript, bytes in a pipe included. False when memory for them is lacking.
  bool dissolve();
  // Ends both with a reset after `broken` failed; delivers what it had sent before.
  void fail(Connection& broken, int error);
  Connection& other(Connection& connection) const;
  void releasePipes();

  Direction directions[2];

 private:
  enum class Step : uint8_t { again, wait, gone };

  // Both return false when the relay is gone.
  bool pump(Direction& direction);
  bool drain(Direction& direction);
  Step copy(Direction& direction, size_t& moved);
  Step splice(Direction& direction, size_t& moved);
  bool emptyPipe(Direction& direction);
  bool ended(Direction& direction);
  bool finish(Direction& direction);
  Direction& outOf(Connection& connection);
  void growChunk(Direction& direction, size_t moved);
  void leaveSplice(Direction& direction);

  Engine& engine_;
};

}  // namespace ferrule
