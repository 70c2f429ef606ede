#include "connection.h"

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "engine.h"
#include "relay.h"
#include "sockets.h"

namespace ferrule {

namespace {

// How long an ended connection may take to say goodbye: enough for a slow reader to fetch the last bytes, short enough
// that dead peers do not pile up.
constexpr uint32_t LINGER_MS = 2000;

}  // namespace

bool ByteQueue::append(const uint8_t* bytes, size_t length) {
  if (end_ + length > capacity_) {
    const size_t held = size();
    if (begin_ > 0) std::memmove(block_, block_ + begin_, held);
    begin_ = 0;
    end_ = held;
    if (held + length > capacity_) {
      const size_t wanted = std::max(held + length, capacity_ * 2);
      auto* grown = static_cast<uint8_t*>(std::realloc(block_, wanted));
      if (grown == nullptr) return false;
      block_ = grown;
      capacity_ = wanted;
    }
  }
  std::memcpy(block_ + end_, bytes, length);
  end_ += length;
  return true;
}

bool ByteQueue::prepend(const uint8_t* bytes, size_t length) {
  if (empty()) return append(bytes, length);
  if (begin_ < length) {
    const size_t held = size();
    const size_t wanted = std::max(held + length, capacity_ * 2);
    auto* grown = static_cast<uint8_t*>(std::malloc(wanted));
    if (grown == nullptr) return false;
    std::memcpy(grown + wanted - held, block_ + begin_, held);
    std::free(block_);
    block_ = grown;
    begin_ = wanted - held;
    end_ = capacity_ = wanted;
  }
  begin_ -= length;
  std::memcpy(block_ + begin_, bytes, length);
  return true;
}

void ByteQueue::consume(size_t length) {
  begin_ += length;
  if (begin_ == end_) clear();
}

size_t ByteQueue::take(uint8_t* into, size_t length) {
  const size_t taken = std::min(length, size());
  std::memcpy(into, data(), taken);
  consume(taken);
  return taken;
}

void ByteQueue::clear() {
  std::free(block_);
  block_ = nullptr;
  begin_ = end_ = capacity_ = 0;
}

// Registered with epoll once, edge-triggered: reading and pausing never cost another call. EPOLLOUT is added for
// accepted sockets only when one blocks; most never do.
Connection* Engine::allocate(int fd, State state) {
  uint32_t index;
  if (!free_.empty()) {
    index = free_.front();
    free_.pop_front();
  } else if (connections_.size() <= INDEX_MASK) {
    index = uint32_t(connections_.size());
    connections_.emplace_back();
    connections_.back().index = index;
  } else {
    close(fd);
    return nullptr;
  }
  Connection& connection = connections_[index];
  connection.fd = fd;
  connection.state = state;
  connection.writable = state == State::open;
  connection.watchesWrite = state == State::connecting;
  connection.lastActiveTick = nowTick_;
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | (connection.watchesWrite ? uint32_t(EPOLLOUT) : 0u);
  event.data.u64 = uint64_t(connection.id());
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    close(fd);
    connection.state = State::dead;
    free_.push_back(index);
    return nullptr;
  }
  figures_.connections++;
  return &connection;
}

Connection* Engine::find(ConnectionId id) {
  const uint32_t index = uint32_t(id) & INDEX_MASK;
  if (id < 0 || index >= connections_.size()) return nullptr;
  Connection& connection = connections_[index];
  return connection.id() == id && connection.live() ? &connection : nullptr;
}

void Engine::makeReady(Connection& connection) {
  if (connection.queued) return;
  connection.queued = true;
  ready_.push_back(&connection);
}

void Engine::readForTypeScript(Connection& connection) {
  // What a peer that has ended sent before is not much, and behind it is its end.
  if (connection.closeWanted) return connection.deaf && !connection.hangup ? void() : discardInput(connection);
  // What came right behind a body must be known before TypeScript takes the connection for one that waits.
  bool behind = connection.passing > 0;
  if (behind && !passOn(connection)) return;
  const size_t most = connection.shared ? SHARED_READ_BYTES : READ_BYTES;
  for (; connection.readable && !connection.paused && !connection.readEnded; behind = false) {
    if (!behind && isHeldBack(connection)) return heldBack(connection);
    if (!roomForEvents() || slabUsed_ + READ_ROOM > SLAB_RECEIVE_BYTES) return makeReady(connection);
    const size_t start = slabUsed_ + FREE_BYTES;
    const ssize_t length = readSome(connection, buffers_.slab + start, most);
    if (length == 0) return endOfStream(connection);
    if (length == -EAGAIN) continue;
    if (length < 0) {
      return destroy(connection, connection.failure != 0 ? connection.failure : int(-length), true);
    }
    emit(Event::data, connection.id(), int32_t(start), int32_t(length));
    slabUsed_ = start + ((size_t(length) + 7) & ~size_t(7));
    // Sealed bytes are fewer when opened: there a read was full when it left something in the socket.
    const bool full = size_t(length) >= most || (connection.tls != nullptr && connection.readable);
    if (full) return makeReady(connection);
  }
}

// Its receiver has to catch up first.
bool Engine::isHeldBack(const Connection& connection) const {
  return connection.linkedTo != nullptr && connection.linkedTo->out.size() > HIGH_WATER;
}

// A client that is gone wants no answer to what is still unread of it, and nothing else may ever tell that it is gone. What a
// server has sent before it broke is still somebody's answer.
bool Engine::isBroken(const Connection& connection) const {
  const bool accepted = connection.startedUs == 0;
  const bool unread = connection.paused || (accepted && isHeldBack(connection));
  return connection.errored && (connection.readEnded || connection.deaf || (unread && !connection.closeWanted));
}

void Engine::heldBack(Connection& connection) {
  if (isBroken(connection)) makeReady(connection);
}

// We are done and have said so; closing with unread input would reset the connection and may cost the peer our last
// bytes (RFC 9112 section 9.6).
void Engine::discardInput(Connection& connection) {
  if (!connection.readable || connection.readEnded) return;
  const ssize_t length = readSome(connection, staging_.get(), STAGING_BYTES);
  // One read a turn: a peer that never stops must not keep the deadline from coming.
  if (length > 0 || (length == -EAGAIN && connection.readable)) return makeReady(connection);
  if (length == -EAGAIN) return;
  connection.readable = false;
  connection.readEnded = length == 0;
  // A peer that ended its side may still be reading what is queued.
  if (connection.readEnded && !connection.out.empty()) return;
  const int broken = length < 0 && !connection.shutDone ? int(-length) : 0;
  const int error = connection.failure != 0 ? connection.failure : broken;
  destroy(connection, error, error != 0);
}

void Engine::endOfStream(Connection& connection) {
  connection.readEnded = true;
  // After a failed write the kernel reports an end where there was a reset.
  if (connection.failure != 0) return destroy(connection, connection.failure, true);
  if (connection.shutDone) return destroy(connection, 0, false);
  connection.endReported = true;
  emit(Event::end, connection.id());
}

void Engine::send(Connection& connection, const uint8_t* bytes, size_t length) {
  if (connection.failure != 0) return;
  const int error = writeOrQueue(connection, bytes, length);
  if (error != 0) return writeFailed(connection, -error);
  if (connection.out.size() > QUEUE_LIMIT) return destroy(connection, ENOBUFS, true);
  if (connection.out.size() > HIGH_WATER && !connection.blockedReported) {
    connection.blockedReported = true;
    emit(Event::blocked, connection.id());
  }
}

int Engine::writeOrQueue(Connection& connection, const uint8_t* bytes, size_t length) {
  if (connection.tls == nullptr) return writeRaw(connection, bytes, length);
  return writeSecured(connection, bytes, length);
}

int Engine::writeRaw(Connection& connection, const uint8_t* bytes, size_t length) {
  size_t written = 0;
  const bool tried = connection.out.empty() && connection.writable;
  if (tried) {
    const ssize_t result = writeSome(connection, bytes, length);
    if (result < 0 && result != -EAGAIN) return int(result);
    written = result < 0 ? 0 : size_t(result);
  }
  if (written == length) return 0;
  if (!connection.out.append(bytes + written, length - written)) return -ENOMEM;
  figures_.queuedBytes += double(length - written);
  // That it can be written to has been told only once, and what was queued before has not been tried since then.
  if (tried || !connection.writable) waitForWrite(connection);
  else makeReady(connection);
  return 0;
}

void Engine::waitForWrite(Connection& connection) {
  connection.writable = false;
  if (connection.watchesWrite) return;
  connection.watchesWrite = true;
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET | EPOLLOUT;
  event.data.u64 = uint64_t(connection.id());
  // Cannot fail for a registered descriptor but for lack of kernel memory, and then the connection must not hang.
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event) != 0) {
    connection.errored = connection.writable = true;
    makeReady(connection);
  }
}

void Engine::flush(Connection& connection) {
  while (!connection.out.empty() && connection.writable) {
    const ssize_t result = writeSome(connection, connection.out.data(), connection.out.size());
    if (result == -EAGAIN) {
      waitForWrite(connection);
    } else if (result < 0) {
      return writeFailed(connection, int(-result));
    } else {
      figures_.queuedBytes -= double(result);
      connection.out.consume(size_t(result));
    }
  }
  if (connection.relay == nullptr) afterFlush(connection);
}

void Engine::afterFlush(Connection& connection) {
  if (connection.out.size() <= LOW_WATER) {
    if (connection.blockedReported) {
      connection.blockedReported = false;
      emit(Event::drained, connection.id());
    }
    if (connection.linkedFrom != nullptr && connection.linkedFrom->readable) makeReady(*connection.linkedFrom);
  }
  if (!connection.out.empty() || connection.state != State::open || connection.handshaking()) return;
  if (connection.peerDone && !connection.shutDone) return leave(connection);
  if (connection.shutWanted && !connection.shutDone) endOutput(connection);
  if (!connection.shutDone) return;
  if (connection.readEnded) return destroy(connection, 0, false);
  if (!connection.closeWanted) return;
  setDeadline(connection, LINGER_MS, DeadlineMode::absolute);
  makeReady(connection);
}

// The peer waits for nothing but our end, and of it nothing is unread, which would make closing a reset. Three system calls less
// than shutting down, and reading the peer's own end, before closing.
void Engine::leave(Connection& connection) {
  connection.peerDone = false;
  if (connection.readable || connection.tls != nullptr || !connection.unread.empty()) return afterFlush(connection);
  destroy(connection, 0, false);
}

// Tells the peer that nothing follows, as soon as everything is out.
void Engine::endOutput(Connection& connection) {
  if (connection.tls != nullptr) sendCloseNotify(connection);
  if (!connection.out.empty()) return;
  ::shutdown(connection.fd, SHUT_WR);
  connection.shutDone = true;
}

// The peer is gone, but what it sent before may still be in the socket: read on until the end, then report.
void Engine::writeFailed(Connection& connection, int error) {
  if (connection.relay != nullptr) return connection.relay->fail(connection, error);
  connection.failure = error;
  connection.errored = connection.hangup = connection.readable = true;
  figures_.queuedBytes -= double(connection.out.size());
  connection.out.clear();
  makeReady(connection);
}

void Engine::link(Connection& connection, ConnectionId other) {
  unlink(connection);
  Connection* target = find(other);
  if (target == nullptr || target == &connection) return;
  if (target->linkedFrom != nullptr) unlink(*target->linkedFrom);
  connection.linkedTo = target;
  target->linkedFrom = &connection;
}

void Engine::unlink(Connection& connection) {
  if (connection.linkedTo == nullptr) return;
  connection.linkedTo->linkedFrom = nullptr;
  connection.linkedTo = nullptr;
  if (connection.passing > 0)
    emit(Event::passed, connection.id(), int32_t(uint32_t(connection.passing)), int32_t(connection.passing >> 32));
  connection.passing = 0;
  if (connection.readable) makeReady(connection);
}

void Engine::destroy(Connection& connection, int error, bool reset, bool causedByOther) {
  // How far it came with what was to be passed on is told before its end.
  unlink(connection);
  if (connection.linkedFrom != nullptr) unlink(*connection.linkedFrom);
  int32_t records[2 * RECORD_INTS] = {int32_t(Event::closed), connection.id(), error,
                                      (causedByOther ? 1 : 0) | (connection.alert + 1) << 1};
  std::memcpy(records + RECORD_INTS, &connection.bytesRead, sizeof(double));
  std::memcpy(records + RECORD_INTS + 2, &connection.bytesWritten, sizeof(double));
  emitRecords(records, 2);
  release(connection, reset);
}

// The one way a connection ends. Its id stays reserved until TypeScript has heard of it.
void Engine::release(Connection& connection, bool reset) {
  wheel_.disarm(connection.timer);
  unlink(connection);
  if (connection.linkedFrom != nullptr) unlink(*connection.linkedFrom);
  if (connection.own != nullptr) OwnSockets::instance().remove(connection.own);
  if (reset) armReset(connection.fd);
  close(connection.fd);
  figures_.connections--;
  if (connection.handshaking()) handshakes_--;
  figures_.queuedBytes -= double(connection.out.size());
  const uint32_t index = connection.index;
  const uint32_t generation = connection.generation % GENERATION_MASK + 1;
  const bool queued = connection.queued;
  connection.~Connection();
  new (&connection) Connection();
  connection.index = index;
  connection.generation = generation;
  connection.queued = queued;
  connection.state = State::dead;
  quarantine_.push_back(index);
}

ssize_t Engine::readSome(Connection& connection, uint8_t* into, size_t length) {
  if (connection.tls != nullptr) return readSecured(connection, into, length);
  const ssize_t result = receive(connection, into, length);
  if (result > 0) countRead(connection, size_t(result));
  return result;
}

ssize_t Engine::receive(Connection& connection, uint8_t* into, size_t length) {
  if (!connection.unread.empty()) return ssize_t(connection.unread.take(into, length));
  ssize_t result;
  do {
    result = recv(connection.fd, into, length, 0);
  } while (result < 0 && errno == EINTR);
  // A short read empties the socket, unless the end is already in it.
  const bool emptied = result > 0 && size_t(result) < length && !connection.hangup && !connection.urgent;
  if (emptied || (result < 0 && errno == EAGAIN)) connection.readable = false;
  return result < 0 ? -errno : result;
}

ssize_t Engine::writeSome(Connection& connection, const void* from, size_t length) {
  ssize_t result;
  do {
    result = ::send(connection.fd, from, length, MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  connection.lastActiveTick = nowTick_;
  if (connection.tls == nullptr) countWritten(connection, size_t(result));
  return result;
}

void Engine::countRead(Connection& connection, size_t length) {
  connection.bytesRead += double(length);
  connection.lastActiveTick = nowTick_;
  if (connection.readSlot != 0) buffers_.metrics[connection.readSlot] += double(length);
}

void Engine::countWritten(Connection& connection, size_t length) {
  connection.bytesWritten += double(length);
  connection.lastActiveTick = nowTick_;
  if (connection.writeSlot != 0) buffers_.metrics[connection.writeSlot] += double(length);
}

}  // namespace ferrule
