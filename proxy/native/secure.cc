// Mutual TLS on a connection: the handshake on its way, then sealing what goes out and opening what comes in.
#include <cerrno>
#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "engine.h"
#include "relay.h"

namespace ferrule {

namespace {

// One read during a handshake: more than a flight with an ML-KEM share and a chain of certificates.
constexpr size_t HANDSHAKE_READ_BYTES = 16 * 1024;

// A handshake takes 62 KB while it lasts, and keys of connections that stay come to lie between: the allocator alone never
// gives that memory back (2000 handshakes at once left 80 MB). Returning it stops this thread for 5 to 40 ms, so that it
// takes this many at once to ask for it, and has to wait until that is a second ago.
constexpr size_t MANY_HANDSHAKES = 256;
constexpr uint32_t BURST_TICKS = 1000 / TICK_MS;

// Opening a record takes 0.6 us, whatever it carries: as long as 1 KB of bulk takes.
constexpr size_t RECORD_WORK = 1024;

constexpr uint32_t KEY_UPDATE_TICKS = 1000 / TICK_MS;

}  // namespace

int Engine::addContext(SSL_CTX* context) {
  contexts_.emplace_back(context);
  return int(contexts_.size()) - 1;
}

// Connections that use it go on: OpenSSL counts references.
void Engine::dropContext(int number) {
  if (number >= 0 && size_t(number) < contexts_.size()) contexts_[size_t(number)].reset();
}

int Engine::startTls(Connection& connection, int32_t contextAndRole, int32_t parameters) {
  const auto number = size_t(contextAndRole >> 1);
  const bool server = (contextAndRole & 1) != 0;
  const bool possible = connection.state == State::open && connection.relay == nullptr && connection.tls == nullptr &&
                        !connection.shutWanted && number < contexts_.size() && contexts_[number] != nullptr &&
                        parameters >= 0 && size_t(parameters) < SLAB_BYTES;
  if (!possible) return -EINVAL;
  auto tls = std::make_unique<Tls>();
  const size_t room = SLAB_BYTES - size_t(parameters);
  tls->handshake = TlsHandshake::make(contexts_[number].get(), server, buffers_.slab + parameters, room);
  if (tls->handshake == nullptr) return -ENOMEM;
  tls->startedUs = monotonicUs();
  // A client speaks first. A socket that does not take it is broken, and reading from it says so.
  if (!server && tls->handshake->advance(nullptr, 0) != TlsHandshake::Step::more) return -ENOMEM;
  connection.tls = std::move(tls);
  if (++handshakes_ >= MANY_HANDSHAKES) {
    burst_ = true;
    burstTick_ = wheel_.now();
  }
  if (!server) sendHandshake(connection);
  // Reports go through the slab, which belongs to TypeScript until this batch is over: the rest is for the next turn.
  connection.readable = true;
  makeReady(connection);
  return 0;
}

// Gives received bytes back, ahead of all others.
int Engine::unread(Connection& connection, const uint8_t* bytes, size_t length) {
  if (connection.relay != nullptr || connection.handshaking() || connection.state != State::open) return -EINVAL;
  ByteQueue& queue = connection.tls == nullptr ? connection.unread : connection.tls->unread;
  if (!queue.prepend(bytes, length)) return -ENOMEM;
  // An end that came behind these bytes is found, and told, again.
  connection.readEnded = connection.endReported = false;
  connection.bytesRead -= double(length);
  if (connection.readSlot != 0) buffers_.metrics[connection.readSlot] -= double(length);
  connection.readable = true;
  // Nothing else may ever come that would say so.
  if (!connection.paused) makeReady(connection);
  return 0;
}

void Engine::continueHandshake(Connection& connection) {
  if (connection.writable && !connection.out.empty()) flush(connection);
  while (connection.live() && connection.handshaking() && connection.readable) {
    const ssize_t length = receive(connection, sealed_.get(), HANDSHAKE_READ_BYTES);
    if (length == -EAGAIN) return;
    if (length <= 0) {
      connection.tls->handshake->abandon(length == 0 ? "the peer closed the connection" : "the connection broke");
      return handshakeFailed(connection, length == 0 ? ECONNRESET : int(-length));
    }
    advanceHandshake(connection, sealed_.get(), size_t(length));
  }
}

void Engine::advanceHandshake(Connection& connection, const uint8_t* bytes, size_t length) {
  const TlsHandshake::Step step = connection.tls->handshake->advance(bytes, length);
  sendHandshake(connection);
  if (step == TlsHandshake::Step::failed) return handshakeFailed(connection, EPROTO);
  if (step == TlsHandshake::Step::done) handshakeDone(connection);
}

// A write that fails is not looked at: why the peer left may be in the socket, as an alert, and else reading fails too.
void Engine::sendHandshake(Connection& connection) {
  const uint8_t* output;
  const size_t length = connection.tls->handshake->output(&output);
  if (length > 0 && writeRaw(connection, output, length) != 0) connection.readable = true;
  connection.tls->handshake->clearOutput();
}

void Engine::handshakeDone(Connection& connection) {
  Tls& tls = *connection.tls;
  tls.records = tls.handshake->records();
  const uint8_t* rest;
  const size_t restLength = tls.handshake->leftover(&rest);
  if (tls.records == nullptr || (restLength > 0 && !connection.unread.prepend(rest, restLength))) {
    tls.handshake->abandon("out of memory");
    return handshakeFailed(connection, ENOMEM);
  }
  emitReport(Event::secured, connection);
  tls.handshake.reset();
  handshakes_--;
  connection.readable = true;
  // A reset that came with the last message was told by epoll already, once.
  if (!connection.paused || connection.errored) makeReady(connection);
  // An end of stream that was asked for meanwhile.
  if (connection.shutWanted) afterFlush(connection);
}

void Engine::handshakeFailed(Connection& connection, int error) {
  emitReport(Event::tlsFailed, connection);
  destroy(connection, error, false);
}

// serveReady() made sure of the room.
void Engine::emitReport(Event event, Connection& connection) {
  const auto micros = uint32_t(std::min<uint64_t>(monotonicUs() - connection.tls->startedUs, UINT32_MAX));
  const size_t length = connection.tls->handshake->report(buffers_.slab + slabUsed_, micros);
  emit(event, connection.id(), int32_t(slabUsed_), int32_t(length));
  slabUsed_ += (length + 7) & ~size_t(7);
}

void Engine::returnMemory() {
  if (handshakes_ >= MANY_HANDSHAKES || wheel_.now() - burstTick_ < BURST_TICKS) return;
  burst_ = false;
  malloc_trim(0);
}

ssize_t Engine::readSecured(Connection& connection, uint8_t* into, size_t length) {
  Tls& tls = *connection.tls;
  if (!tls.unread.empty()) {
    const size_t taken = tls.work = tls.unread.take(into, length);
    countRead(connection, taken);
    return ssize_t(taken);
  }
  tls.work = 0;
  if (tls.closeReceived) return 0;
  if (tls.records == nullptr) return -EAGAIN;
  if (tls.brokenBy >= 0) return breakOff(connection);
  uint8_t* raw = sealed_.get();
  const size_t held = tls.partial.size();
  if (held > 0) std::memcpy(raw, tls.partial.data(), held);
  const ssize_t received = receive(connection, raw + held, length);
  // An end that was not announced may be anybody's: never taken for a complete stream (RFC 8446 section 6.1).
  if (received == 0) return -ECONNRESET;
  if (received < 0) return received;
  tls.partial.clear();
  const size_t total = held + size_t(received);
  if (nowTick_ - tls.keyUpdatesTick >= KEY_UPDATE_TICKS) {
    tls.keyUpdatesTick = nowTick_;
    tls.records->allowKeyUpdates();
  }
  const OpenedBytes opened = tls.records->open(raw, total, into);
  tls.work = size_t(received) + opened.records * RECORD_WORK;
  if (opened.sendAlert >= 0 || opened.peerAlert >= 0) {
    connection.alert = opened.peerAlert;
    tls.brokenBy = std::max(opened.sendAlert, 0);
    // What came before is good, and goes first.
    connection.readable = true;
    if (opened.produced == 0) return breakOff(connection);
  } else if (opened.closed) {
    tls.closeReceived = connection.readable = true;
    if (opened.produced == 0) return 0;
  } else if (opened.consumed < total && !tls.partial.append(raw + opened.consumed, total - opened.consumed)) {
    return -ENOMEM;
  }
  if (opened.produced == 0) return -EAGAIN;
  countRead(connection, opened.produced);
  return ssize_t(opened.produced);
}

// The peer broke the protocol, which it is told, or gave up itself.
int Engine::breakOff(Connection& connection) {
  if (connection.alert < 0) {
    connection.alert = connection.tls->brokenBy | ALERT_OURS;
    uint8_t record[64];
    const size_t length = connection.tls->records->sealAlert(Alert(connection.tls->brokenBy), record);
    writeRaw(connection, record, length);
  }
  return -EPROTO;
}

int Engine::writeSecured(Connection& connection, const uint8_t* bytes, size_t length) {
  if (connection.tls->records == nullptr) return -EPROTO;
  countWritten(connection, length);
  while (length > 0) {
    const size_t piece = std::min(length, STAGING_BYTES);
    const size_t sealed = connection.tls->records->seal(bytes, piece, sealed_.get());
    if (sealed == 0) return -EPROTO;
    const int error = writeRaw(connection, sealed_.get(), sealed);
    if (error != 0) return error;
    bytes += piece;
    length -= piece;
  }
  return 0;
}

void Engine::sendCloseNotify(Connection& connection) {
  Tls& tls = *connection.tls;
  if (tls.closeSent || tls.records == nullptr) return;
  tls.closeSent = true;
  uint8_t record[64];
  // A socket that does not take it is broken, and reading from it says so.
  writeRaw(connection, record, tls.records->sealAlert(Alert::closeNotify, record));
}

}  // namespace ferrule
