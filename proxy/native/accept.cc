// Connections come into being here: accepted from a listener, or opened towards an upstream.
#include <cerrno>

#include <cstring>

#include "engine.h"
#include "sockets.h"

namespace ferrule {

namespace {

// One batch takes at most this many connections from a listener, so that a connection storm does not starve the others.
constexpr int ACCEPTS_PER_TURN = 64;

// What accept4 reports of the connection rather than of us (accept(2), "Error handling"): try the next one.
bool concernsOneConnection(int error) {
  switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

}  // namespace

int Engine::addListener(int fd, bool transparent) {
  const int number = int(listeners_.size());
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = TAG_LISTENER | uint64_t(number);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return -errno;
  Listener listener;
  listener.fd = fd;
  listener.transparent = transparent;
  listeners_.push_back(listener);
  return number;
}

void Engine::removeListener(int number) {
  if (number < 0 || size_t(number) >= listeners_.size() || listeners_[size_t(number)].fd < 0) return;
  Listener& listener = listeners_[size_t(number)];
  if (listener.paused) {
    figures_.acceptPaused--;
  } else {
    epoll_ctl(epoll_, EPOLL_CTL_DEL, listener.fd, nullptr);
  }
  listener = Listener{};
}

void Engine::acceptPending(int number) {
  Listener& listener = listeners_[size_t(number)];
  for (int accepted = 0; accepted < ACCEPTS_PER_TURN && roomForEvents(); accepted++) {
    Address peer;
    const int fd = acceptConnection(listener.fd, peer);
    if (fd >= 0) {
      Connection* connection = allocate(fd, State::open);
      if (connection == nullptr) return;
      announce(number, *connection, peer);
      continue;
    }
    if (concernsOneConnection(-fd)) continue;
    listener.ready = false;
    if (fd != -EAGAIN) pauseAccept(number, -fd);
    return;
  }
  // Level-triggered: what is left is reported again.
  listener.ready = false;
}

void Engine::announce(int number, Connection& connection, const Address& peer) {
  figures_.accepted++;
  Address local, original;
  if (listeners_[size_t(number)].transparent) {
    local = localAddress(connection.fd);
    original = originalDestination(connection.fd, local);
  }
  const bool own = original.family != 0 && OwnSockets::instance().contains({peer, original});
  int32_t records[5 * RECORD_INTS] = {int32_t(Event::accepted), connection.id(), number, own ? ACCEPT_FLAG_OWN : 0};
  peer.store(records + RECORD_INTS);
  local.store(records + RECORD_INTS + ADDRESS_WORDS);
  original.store(records + RECORD_INTS + 2 * ADDRESS_WORDS);
  emitRecords(records, 5);
}

// Out of descriptors or memory. Level-triggered readiness would spin: stop watching, look again every tick.
void Engine::pauseAccept(int number, int error) {
  Listener& listener = listeners_[size_t(number)];
  epoll_ctl(epoll_, EPOLL_CTL_DEL, listener.fd, nullptr);
  listener.paused = true;
  figures_.acceptPaused++;
  emit(Event::acceptPaused, number, error);
}

void Engine::retryPausedListeners() {
  for (size_t number = 0; number < listeners_.size(); number++) {
    Listener& listener = listeners_[number];
    if (!listener.paused) continue;
    Address peer;
    const int fd = acceptConnection(listener.fd, peer);
    const bool exhausted = fd < 0 && fd != -EAGAIN && !concernsOneConnection(-fd);
    if (exhausted) continue;
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = TAG_LISTENER | uint64_t(number);
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, listener.fd, &event) == 0) {
      listener.paused = false;
      figures_.acceptPaused--;
      emit(Event::acceptResumed, ConnectionId(number));
    }
    if (fd < 0) continue;
    if (Connection* connection = allocate(fd, State::open)) announce(int(number), *connection, peer);
  }
}

int Engine::connect(const Address& remote, bool track) {
  const uint64_t startedUs = monotonicUs();
  const int fd = startConnect(remote);
  if (fd < 0) return fd;
  Connection* connection = allocate(fd, State::connecting);
  if (connection == nullptr) return -ENOBUFS;
  connection->startedUs = startedUs;
  if (track) connection->own = OwnSockets::instance().add({localAddress(fd), remote});
  return connection->id();
}

void Engine::finishConnect(Connection& connection) {
  if (!connection.writable) return;
  const int error = connection.errored || connection.hangup ? takeSocketError(connection.fd) : 0;
  if (error != 0) {
    emit(Event::connectFailed, connection.id(), error);
    return release(connection, true);
  }
  wheel_.disarm(connection.timer);
  connection.state = State::open;
  young_.push_back({connection.id(), wheel_.now() + KEEPALIVE_AFTER_MS / TICK_MS});
  emit(Event::connected, connection.id(), int32_t(monotonicUs() - connection.startedUs));
  // What was asked for meanwhile, and what came with the same readiness.
  if (!connection.out.empty() || connection.shutWanted) flush(connection);
  if (connection.readable) makeReady(connection);
}

}  // namespace ferrule
