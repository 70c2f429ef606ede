#include "relay.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "engine.h"
#include "sockets.h"

namespace ferrule {

namespace {

// Copying starts with reads as small as requests are, so that little memory is touched, and grows while they come full.
constexpr uint32_t CHUNK_FIRST = 16 * 1024;
constexpr uint32_t CHUNK_BLOCKED = 64 * 1024;

// Small messages cost 18 % more through a pipe than copied; bulk costs 30 % less. A direction has proved bulky when
// this much came in reads no smaller than BULKY_READ.
constexpr uint32_t BULKY_READ = 32 * 1024;
constexpr uint32_t BULKY_BYTES = 512 * 1024;

// So many small splices in a row and the direction is copied again.
constexpr uint32_t SMALL_SPLICES = 8;
constexpr size_t SPLICE_BYTES = 1 << 20;

}  // namespace

Relay::Relay(Engine& engine, Connection& a, Connection& b) : engine_(engine) {
  directions[0].from = directions[1].to = &a;
  directions[1].from = directions[0].to = &b;
  for (Direction& direction : directions) {
    direction.chunk = CHUNK_FIRST;
    direction.ended = direction.from->readEnded || direction.to->shutWanted;
    direction.finished = direction.to->shutDone;
    direction.from->paused = false;
  }
}

Connection& Relay::other(Connection& connection) const {
  return *(directions[0].from == &connection ? directions[0].to : directions[0].from);
}

Direction& Relay::outOf(Connection& connection) { return directions[directions[0].from == &connection ? 0 : 1]; }

void Relay::serve(Connection& connection) {
  Direction& out = outOf(connection);
  Direction& in = directions[&out == &directions[0] ? 1 : 0];
  // Broken, and no read will tell: it had ended before, is paused, or its bytes wait for a side that may never read.
  if (connection.errored && (out.ended || connection.paused || out.pipe != nullptr || !out.to->out.empty())) {
    const int error = takeSocketError(connection.fd);
    return fail(connection, error != 0 ? error : ECONNRESET);
  }
  // A flushed queue lets the other side be read again.
  if (!pump(in)) return;
  pump(out);
}

bool Relay::pump(Direction& direction) {
  if (!drain(direction)) return false;
  if (!direction.to->out.empty() || direction.pipe != nullptr) return true;
  if (direction.ended) return finish(direction);
  Connection& from = *direction.from;
  size_t moved = 0;
  while (from.readable && !from.paused) {
    if (moved >= TURN_BYTES) {
      engine_.makeReady(from);
      return true;
    }
    const bool plain = from.tls == nullptr && direction.to->tls == nullptr && from.unread.empty();
    const bool bulky = plain && direction.bulkyBytes >= BULKY_BYTES && !from.urgent;
    const Step step = bulky ? splice(direction, moved) : copy(direction, moved);
    if (step != Step::again) return step == Step::wait;
  }
  return true;
}

// Writes what earlier reads left behind.
bool Relay::drain(Direction& direction) {
  Connection& to = *direction.to;
  if (!to.writable) return true;
  if (!to.out.empty()) {
    engine_.flush(to);
    if (to.relay != this) return false;
  }
  return direction.pipe == nullptr || !to.out.empty() || emptyPipe(direction);
}

Relay::Step Relay::copy(Direction& direction, size_t& moved) {
  Connection& from = *direction.from;
  Connection& to = *direction.to;
  const ssize_t length = engine_.readSome(from, engine_.staging_.get(), direction.chunk);
  // Not what came out of it: records that carry little, or nothing, would keep everybody else waiting.
  if (from.tls != nullptr) moved += from.tls->work;
  if (length == -EAGAIN) return from.readable ? Step::again : Step::wait;
  if (length < 0) {
    fail(from, int(-length));
    return Step::gone;
  }
  if (length == 0) return ended(direction) ? Step::wait : Step::gone;
  const auto bytes = size_t(length);
  if (from.tls == nullptr) moved += bytes;
  engine_.figures_.copiedBytes += double(bytes);
  growChunk(direction, bytes);
  const int error = engine_.writeOrQueue(to, engine_.staging_.get(), bytes);
  if (error != 0) {
    fail(to, -error);
    return Step::gone;
  }
  if (to.out.empty()) return Step::again;
  direction.chunk = std::min(direction.chunk, CHUNK_BLOCKED);
  return Step::wait;
}

void Relay::growChunk(Direction& direction, size_t moved) {
  // Sealed bytes are fewer when opened: there a read was full when it left something in the socket.
  const bool more = direction.from->tls != nullptr && direction.from->readable;
  // Many small records: a turn is over only between reads.
  if (more && moved < direction.chunk / 2) {
    direction.chunk = CHUNK_FIRST;
  } else if (more || moved == direction.chunk) {
    direction.chunk = std::min(direction.chunk * 4, uint32_t(STAGING_BYTES));
  }
  direction.bulkyBytes = moved >= BULKY_READ || moved == CHUNK_FIRST ? direction.bulkyBytes + uint32_t(moved) : 0;
}

Relay::Step Relay::splice(Direction& direction, size_t& moved) {
  Connection& from = *direction.from;
  Pipe* pipe = engine_.pipes_.acquire();
  if (pipe == nullptr) {
    direction.bulkyBytes = 0;
    return Step::again;
  }
  const ssize_t length = ::splice(from.fd, nullptr, pipe->writeEnd, nullptr, SPLICE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  const int error = errno;
  if (length <= 0) {
    engine_.pipes_.release(pipe);
    if (length == 0) return ended(direction) ? Step::wait : Step::gone;
    if (error == EAGAIN) {
      from.readable = false;
      return Step::wait;
    }
    if (error == EINTR) return Step::again;
    if (error == EINVAL) {
      direction.bulkyBytes = 0;
      return Step::again;
    }
    fail(from, error);
    return Step::gone;
  }
  pipe->held = size_t(length);
  direction.pipe = pipe;
  moved += pipe->held;
  engine_.countRead(from, pipe->held);
  engine_.figures_.splicedBytes += double(length);
  direction.smallSplices = size_t(length) < BULKY_READ ? direction.smallSplices + 1 : 0;
  if (direction.smallSplices >= SMALL_SPLICES) direction.smallSplices = direction.bulkyBytes = 0;
  if (!emptyPipe(direction)) return Step::gone;
  return direction.pipe == nullptr ? Step::again : Step::wait;
}

// Moves the pipe's bytes on. A direction owns a pipe only while bytes are in it, so that idle ones hold none.
bool Relay::emptyPipe(Direction& direction) {
  Connection& to = *direction.to;
  Pipe* pipe = direction.pipe;
  while (pipe->held > 0) {
    const ssize_t length = ::splice(pipe->readEnd, nullptr, to.fd, nullptr, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (length > 0) {
      pipe->held -= size_t(length);
      engine_.countWritten(to, size_t(length));
    } else if (length < 0 && errno == EAGAIN) {
      engine_.waitForWrite(to);
      return true;
    } else if (length == 0 || errno != EINTR) {
      fail(to, length == 0 ? EPIPE : errno);
      return false;
    }
  }
  direction.pipe = nullptr;
  engine_.pipes_.release(pipe);
  return true;
}

bool Relay::ended(Direction& direction) {
  direction.ended = direction.from->readEnded = true;
  // After a failed write the kernel reports an end where there was a reset.
  if (direction.from->failure != 0) {
    fail(*direction.from, direction.from->failure);
    return false;
  }
  return finish(direction);
}

// Carries the end of stream to the other side; the second one ends the relay.
bool Relay::finish(Direction& direction) {
  if (direction.finished) return true;
  Connection& to = *direction.to;
  const Direction& reverse = outOf(to);
  // With TLS the second end is said too: without its close_notify the peer takes it for a truncation.
  if (!reverse.finished || to.tls != nullptr) {
    engine_.endOutput(to);
    if (!to.shutDone) return true;
  }
  direction.finished = true;
  if (!reverse.finished) return true;
  Engine& engine = engine_;
  Connection& from = *direction.from;
  from.relay = to.relay = nullptr;
  engine.figures_.relays--;
  delete this;
  engine.destroy(from, 0, false);
  engine.destroy(to, 0, false);
  return false;
}

void Relay::fail(Connection& broken, int error) {
  Engine& engine = engine_;
  Connection& partner = other(broken);
  Direction& direction = outOf(broken);
  const bool straight = !direction.ended && direction.pipe == nullptr && partner.out.empty();
  // A peer that answers and closes with our bytes unread resets the connection; its answer is still in the socket.
  while (error != 0 && straight && partner.writable) {
    const ssize_t length = engine.readSome(broken, engine.staging_.get(), STAGING_BYTES);
    if (length == -EAGAIN && broken.readable) continue;
    if (length <= 0 || engine.writeOrQueue(partner, engine.staging_.get(), size_t(length)) != 0) break;
    if (!partner.out.empty()) break;
  }
  releasePipes();
  broken.relay = partner.relay = nullptr;
  engine.figures_.relays--;
  delete this;
  engine.destroy(broken, error, true);
  engine.destroy(partner, 0, true, true);
}

bool Relay::dissolve() {
  Engine& engine = engine_;
  for (Direction& direction : directions) {
    // At most a pipe's worth of loose bytes joins the queue of their receiver.
    while (direction.pipe != nullptr && direction.pipe->held > 0) {
      const ssize_t length = read(direction.pipe->readEnd, engine.staging_.get(), STAGING_BYTES);
      if (length <= 0 || !direction.to->out.append(engine.staging_.get(), size_t(length))) return false;
      engine.figures_.queuedBytes += double(length);
      direction.pipe->held -= size_t(length);
    }
    if (direction.ended) direction.to->shutWanted = true;
  }
  releasePipes();
  Connection* sides[2] = {directions[0].from, directions[1].from};
  engine.figures_.relays--;
  delete this;
  for (Connection* side : sides) {
    side->relay = nullptr;
    side->paused = true;
  }
  for (Connection* side : sides) {
    if (side->readEnded && !side->endReported) engine.emit(Event::end, side->id());
    side->endReported = side->readEnded;
    engine.flush(*side);
  }
  return true;
}

void Relay::releasePipes() {
  for (Direction& direction : directions) {
    if (direction.pipe != nullptr) engine_.pipes_.release(direction.pipe);
    direction.pipe = nullptr;
  }
}

}  // namespace ferrule
