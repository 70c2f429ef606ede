// One socket as the engine keeps it. Everything TypeScript knows of it is its id.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <cstdlib>

#include <memory>

#include "own_sockets.h"
#include "tls_handshake.h"
#include "tls_records.h"
#include "wheel.h"

namespace ferrule {

struct Relay;

// Identifies a connection: index (20 bits) | generation (11 bits) << 20, always positive.
using ConnectionId = int32_t;
constexpr int INDEX_BITS = 20;
constexpr uint32_t INDEX_MASK = (1u << INDEX_BITS) - 1;
constexpr uint32_t GENERATION_MASK = (1u << 11) - 1;

// Bytes that wait: for a peer that is not reading, or to be read again. One contiguous block, gone when empty, so that an
// idle connection owns none.
class ByteQueue {
 public:
  ByteQueue() = default;
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;
  ~ByteQueue() { std::free(block_); }

  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  const uint8_t* data() const { return block_ + begin_; }
  // False when there is no memory; the queue is unchanged then.
  bool append(const uint8_t* bytes, size_t length);
  // The same in front of everything, with room for more of it.
  bool prepend(const uint8_t* bytes, size_t length);
  void consume(size_t length);
  // Moves up to `length` bytes to `into`; how many.
  size_t take(uint8_t* into, size_t length);
  void clear();

 private:
  uint8_t* block_ = nullptr;
  size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

enum class State : uint8_t { free, connecting, open, dead };

// Deadlines: `absolute` runs from when it was set, `idle` from the last byte either way (of either side of a relay).
enum class DeadlineMode : uint8_t { absolute = 0, idle = 1 };

// Mutual TLS of a connection: a handshake first, records when it is over.
struct Tls {
  std::unique_ptr<TlsHandshake> handshake;
  std::unique_ptr<TlsRecords> records;
  ByteQueue partial;          // the beginning of a record
  ByteQueue unread;           // what TypeScript gave back of what was opened
  uint64_t startedUs = 0;
  size_t work = 0;            // what the last read cost, in bytes of bulk that cost as much
  uint32_t keyUpdatesTick = 0;  // when key updates were last allowed
  bool closeReceived = false;
  bool closeSent = false;
  int brokenBy = -1;          // the alert to send once what came before was delivered
};

struct Connection {
  TimerNode timer;  // first: the wheel hands back nodes, which are connections
  int fd = -1;
  uint32_t index = 0;
  uint32_t generation = 1;  // never 0, so that 0 names no connection
  State state = State::free;
  DeadlineMode deadlineMode = DeadlineMode::absolute;

  // What edge-triggered epoll said and has not been used up yet.
  bool readable = false;
  bool writable = true;
  bool hangup = false;      // the peer ended or broke its side: a short read is not the last one
  bool urgent = false;      // urgent data came: reads stop at its mark, and splice never passes it
  bool errored = false;       // … broke it
  bool watchesWrite = false;  // EPOLLOUT is registered

  bool paused = true;        // TypeScript does not want data
  bool shared = false;       // by many streams: more is read at a time
  bool readEnded = false;    // end of stream seen
  bool endReported = false;  // … and told
  bool shutWanted = false;   // end our side once the queue is out
  bool shutDone = false;
  bool closeWanted = false;  // end everything once the queue is out
  bool peerDone = false;     // … without a look at what else may come
  bool deaf = false;         // … and nothing is read until the peer has ended
  bool blockedReported = false;
  bool queued = false;       // is in the ready queue
  int failure = 0;           // errno of a failed write; what the peer sent before still gets read

  Connection* linkedTo = nullptr;    // reading here waits while its queue is high
  Connection* linkedFrom = nullptr;
  uint64_t passing = 0;              // so many bytes go to `linkedTo` before TypeScript gets any
  bool passesSlowly = false;         // … which has not kept up
  Relay* relay = nullptr;

  uint32_t readSlot = 0;  // in the metrics slab; 0: nobody counts
  uint32_t writeSlot = 0;
  uint32_t idleMs = 0;
  int32_t deadlineNumber = 0;  // which of its deadlines an event tells of
  uint32_t lastActiveTick = 0;
  uint64_t startedUs = 0;  // when connect() was called
  double bytesRead = 0;
  double bytesWritten = 0;
  ByteQueue out;              // as it goes out: sealed already where there is TLS
  ByteQueue unread;           // what TypeScript gave back; comes before anything in the socket
  std::unique_ptr<Tls> tls;
  int alert = -1;             // the TLS alert that ended it, either way
  const SocketPair* own = nullptr;  // in the table of our own upstream sockets

  ConnectionId id() const { return ConnectionId(index | (generation << INDEX_BITS)); }
  bool handshaking() const { return tls != nullptr && tls->handshake != nullptr; }
  bool live() const { return state == State::open || state == State::connecting; }
};

}  // namespace ferrule
