// Bytes of known number that go from one connection to the one it is linked to: a long body, of which TypeScript has seen the
// beginning and will hear the end. Backpressure is the link's.
#include <cerrno>

#include <algorithm>

#include "engine.h"

namespace ferrule {

namespace {

// Of a receiver that has been slow no more than this waits beyond HIGH_WATER; see relay.cc.
constexpr uint64_t SLOW_CHUNK = 64 * 1024;

}  // namespace

int Engine::startPassing(Connection& connection, uint64_t length) {
  if (connection.state != State::open || connection.relay != nullptr || connection.handshaking()) return -EINVAL;
  // Its receiver has ended meanwhile, and TypeScript hears of that.
  if (connection.linkedTo == nullptr) return 0;
  connection.passing = length;
  connection.passesSlowly = false;
  makeReady(connection);
  return 0;
}

// True when all has been passed on, and what follows is TypeScript's again.
bool Engine::passOn(Connection& connection) {
  size_t moved = 0;
  while (connection.readable && !connection.paused && !connection.readEnded) {
    Connection& to = *connection.linkedTo;
    if (to.state != State::open || to.shutWanted || to.relay != nullptr || to.handshaking()) {
      unlink(connection);
      return true;
    }
    if (isHeldBack(connection)) {
      heldBack(connection);
      return false;
    }
    if (moved >= TURN_BYTES) {
      makeReady(connection);
      return false;
    }
    const uint64_t most = connection.passesSlowly ? SLOW_CHUNK : uint64_t(STAGING_BYTES);
    uint64_t wanted = std::min(connection.passing, most);
    // Sealed bytes are asked for: the last few of a body must not be fetched one by one from a record that goes on.
    if (connection.tls != nullptr) wanted = std::max(wanted, uint64_t(READ_BYTES));
    const ssize_t length = readSome(connection, staging_.get(), size_t(wanted));
    // Not what came out of it: records that carry little, or nothing, would keep everybody else waiting.
    if (connection.tls != nullptr) moved += connection.tls->work;
    if (length == -EAGAIN) continue;
    if (length == 0) {
      endOfStream(connection);
      return false;
    }
    if (length < 0) {
      destroy(connection, connection.failure != 0 ? connection.failure : int(-length), true);
      return false;
    }
    if (connection.tls == nullptr) moved += size_t(length);
    // With TLS a record may reach beyond the body.
    const auto passed = size_t(std::min(connection.passing, uint64_t(length)));
    const size_t rest = size_t(length) - passed;
    if (rest > 0 && unread(connection, staging_.get() + passed, rest) != 0) {
      destroy(connection, ENOMEM, true);
      return false;
    }
    connection.passing -= passed;
    figures_.copiedBytes += double(passed);
    send(to, staging_.get(), passed);
    // The receiver is gone, and TypeScript hears of that.
    if (connection.linkedTo == nullptr) return false;
    connection.passesSlowly |= !to.out.empty();
    if (connection.passing == 0) {
      emit(Event::passed, connection.id());
      return true;
    }
  }
  return false;
}

}  // namespace ferrule
