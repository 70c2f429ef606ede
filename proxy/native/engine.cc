#include "engine.h"

#include <cerrno>
#include <ctime>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "relay.h"
#include "sockets.h"

namespace ferrule {

namespace {

// Readiness taken from the kernel at once: more does not save calls, as one batch rarely has as many.
constexpr int MAX_READY = 256;

// Marks libuv's descriptor in epoll_event.data.
constexpr uint64_t TAG_LOOP = 1ull << 62;

int earlier(int aMs, int bMs) {
  if (aMs < 0) return bMs;
  return bMs < 0 ? aMs : std::min(aMs, bMs);
}

// Handles started since the last poll are registered in the next one: libuv must run before anybody sleeps.
bool loopHasNewHandles(const uv_loop_t* loop) { return loop->watcher_queue.next != &loop->watcher_queue; }

}  // namespace

uint64_t monotonicUs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000 + uint64_t(now.tv_nsec) / 1000;
}

Engine::Engine(uv_loop_t* loop, const Buffers& buffers, BatchCallback callback, void* context)
    : loop_(loop), buffers_(buffers), callback_(callback), context_(context), staging_(new uint8_t[STAGING_ROOM]), sealed_(new uint8_t[SEALED_ROOM]) {}

Engine::~Engine() {
  if (epoll_ >= 0) close(epoll_);
}

int Engine::start() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) return -errno;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = TAG_LOOP;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, uv_backend_fd(loop_), &event) != 0) return -errno;
  startUs_ = nowUs_ = monotonicUs();
  uv_check_init(loop_, &check_);
  uv_idle_init(loop_, &idle_);
  check_.data = idle_.data = this;
  openHandles_ = 2;
  uv_check_start(&check_, onCheck);
  uv_idle_start(&idle_, [](uv_idle_t*) {});
  running_ = true;
  return 0;
}

void Engine::stop(void (*done)(void*), void* context) {
  stopped_ = done;
  stoppedContext_ = context;
  running_ = false;
  for (Connection& connection : connections_) {
    if (!connection.live()) continue;
    // Never an orderly end: the other side would take truncated data for the whole.
    if (connection.relay != nullptr) {
      Relay* relay = connection.relay;
      relay->directions[0].from->relay = relay->directions[1].from->relay = nullptr;
      relay->releasePipes();
      figures_.relays--;
      delete relay;
    }
    release(connection, true);
  }
  pipes_.clear();
  figures_.acceptPaused = 0;
  publishFigures();
  const auto closed = [](uv_handle_t* handle) {
    auto* engine = static_cast<Engine*>(handle->data);
    if (--engine->openHandles_ == 0) engine->stopped_(engine->stoppedContext_);
  };
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), closed);
}

// libuv's own poll is kept from sleeping by the idle handle, and its descriptor is in our epoll: one epoll_wait sleeps
// for both, and under load turns follow each other without passing through libuv at all.
void Engine::onCheck(uv_check_t* handle) {
  auto* engine = static_cast<Engine*>(handle->data);
  uv_idle_stop(&engine->idle_);
  engine->loopCalls_ = false;
  for (bool first = true; engine->running_; first = false) {
    uv_update_time(engine->loop_);
    const int loopMs = loopHasNewHandles(engine->loop_) ? 0 : uv_backend_timeout(engine->loop_);
    if (!first && (loopMs == 0 || engine->loopCalls_)) break;
    engine->turn(earlier(loopMs, engine->sleepMs()));
  }
  if (engine->running_) uv_idle_start(&engine->idle_, [](uv_idle_t*) {});
}

int Engine::sleepMs() {
  if (!ready_.empty() || eventCount_ > 0 || !overflow_.empty()) return 0;
  for (const Listener& listener : listeners_) {
    if (listener.ready) return 0;
  }
  const int timers = wheel_.sleepMs(elapsedMs());
  return earlier(earlier(timers, youngMs()), figures_.acceptPaused > 0 || burst_ ? int(TICK_MS) : -1);
}

void Engine::turn(int timeoutMs) {
  epoll_event events[MAX_READY];
  const int count = epoll_wait(epoll_, events, MAX_READY, timeoutMs);
  figures_.turns++;
  for (int i = 0; i < count; i++) takeReadiness(events[i]);
  refreshClock();
  fireTimers();
  serveReady();
  for (size_t number = 0; number < listeners_.size(); number++) {
    if (listeners_[number].ready) acceptPending(int(number));
  }
  if (eventCount_ > 0) deliver();
  publishFigures();
}

void Engine::takeReadiness(const epoll_event& event) {
  const uint64_t tag = event.data.u64;
  if (tag == TAG_LOOP) {
    loopCalls_ = true;
  } else if (tag & TAG_LISTENER) {
    listeners_[size_t(tag & ~TAG_LISTENER)].ready = true;
  } else if (Connection* connection = find(ConnectionId(tag))) {
    const uint32_t what = event.events;
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) connection->readable = true;
    if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) connection->hangup = true;
    if (what & EPOLLERR) connection->errored = true;
    if (what & EPOLLPRI) connection->urgent = connection->readable = true;
    if (what & (EPOLLOUT | EPOLLHUP | EPOLLERR)) connection->writable = true;
    makeReady(*connection);
  }
}

void Engine::serveReady() {
  serving_.swap(ready_);
  size_t served = 0;
  while (served < serving_.size() && roomForEvents() && slabUsed_ + READ_ROOM <= SLAB_RECEIVE_BYTES) {
    Connection& connection = *serving_[served++];
    connection.queued = false;
    if (connection.live()) serve(connection);
  }
  // Whoever found no room comes first next time.
  ready_.insert(ready_.begin(), serving_.begin() + long(served), serving_.end());
  serving_.clear();
}

void Engine::serve(Connection& connection) {
  if (connection.state == State::connecting) return finishConnect(connection);
  if (connection.handshaking()) return continueHandshake(connection);
  if (connection.relay != nullptr) return connection.relay->serve(connection);
  if (connection.writable && !connection.out.empty()) flush(connection);
  if (!connection.live()) return;
  // No read will tell: it had ended before, or nobody is to read it.
  if (isBroken(connection)) {
    const int error = connection.failure != 0 ? connection.failure : takeSocketError(connection.fd);
    return destroy(connection, error != 0 ? error : ECONNRESET, true);
  }
  readForTypeScript(connection);
}

void Engine::refreshClock() {
  nowUs_ = monotonicUs();
  nowTick_ = uint32_t((nowUs_ - startUs_) / 1000 / TICK_MS);
}

void Engine::fireTimers() {
  if (nowTick_ == wheel_.now()) return;
  if (figures_.acceptPaused > 0) retryPausedListeners();
  keepAliveGrown();
  if (burst_) returnMemory();
  wheel_.advance(nowTick_, [this](TimerNode& node) { onDeadline(reinterpret_cast<Connection&>(node)); });
}

int Engine::youngMs() const {
  if (young_.empty()) return -1;
  const auto ticks = int32_t(young_.front().grownTick - wheel_.now());
  return ticks > 0 ? ticks * int(TICK_MS) : int(TICK_MS);
}

void Engine::keepAliveGrown() {
  while (!young_.empty() && int32_t(young_.front().grownTick - wheel_.now()) <= 0) {
    const Connection* connection = find(young_.front().id);
    if (connection != nullptr) setKeepAlive(connection->fd);
    young_.pop_front();
  }
}

void Engine::onDeadline(Connection& connection) {
  if (connection.state == State::connecting) {
    emit(Event::connectFailed, connection.id(), ETIMEDOUT);
    return release(connection, true);
  }
  // A peer that never answers our end of stream does not keep the connection; one that still fetches the rest does.
  if (connection.closeWanted && connection.shutDone) return destroy(connection, 0, false);
  if (connection.deadlineMode == DeadlineMode::idle) {
    uint32_t lastTick = connection.lastActiveTick;
    if (connection.relay != nullptr) {
      lastTick = std::max(lastTick, connection.relay->other(connection).lastActiveTick);
    }
    // The last byte may have come at the end of its tick.
    const int32_t leftMs = int32_t(connection.idleMs) - (int32_t(wheel_.now() - lastTick) - 1) * int32_t(TICK_MS);
    if (leftMs > 0) return wheel_.arm(connection.timer, uint32_t(leftMs), 0);
  }
  emit(Event::deadline, connection.id(), connection.deadlineNumber);
}

void Engine::setDeadline(Connection& connection, uint32_t ms, DeadlineMode mode) {
  wheel_.disarm(connection.timer);
  connection.deadlineMode = mode;
  connection.idleMs = ms;
  connection.lastActiveTick = nowTick_;
  if (ms > 0) wheel_.arm(connection.timer, ms, elapsedMs());
}

// Events that come up while TypeScript and its operations run go to the other buffer and the next batch.
void Engine::deliver() {
  const int buffer = buffer_;
  const int records = int(eventCount_);
  figures_.events += records;
  buffer_ = 1 - buffer_;
  eventCount_ = 0;
  std::vector<uint32_t> heard;
  heard.swap(quarantine_);
  // An environment that can no longer be called is ending: libuv has to run for that.
  if (!callback_(context_, buffer, records)) loopCalls_ = true;
  // stop() may have been called.
  if (!running_) return;
  slabUsed_ = 0;
  // While events wait in the overflow, which ids they name is not worth tracking: keep them all for a batch.
  const bool allHeard = overflow_.empty();
  beginBatch();
  if (allHeard) {
    free_.insert(free_.end(), heard.begin(), heard.end());
  } else {
    quarantine_.insert(quarantine_.end(), heard.begin(), heard.end());
  }
}

// Moves events that found no room into the buffer being filled, whole sequences at a time.
void Engine::beginBatch() {
  if (overflow_.empty() || eventCount_ > 0) return;
  size_t take = std::min(overflow_.size(), EVENT_RECORDS * RECORD_INTS);
  if (take < overflow_.size()) {
    // Never cut between an event and the records that follow it: step over whole events.
    size_t whole = 0;
    for (size_t at = 0; at <= take;) {
      whole = at;
      const auto type = Event(overflow_[at]);
      at += RECORD_INTS * (type == Event::accepted ? 5 : type == Event::closed ? 2 : 1);
    }
    take = whole;
  }
  std::memcpy(buffers_.events[buffer_], overflow_.data(), take * sizeof(int32_t));
  eventCount_ = take / RECORD_INTS;
  overflow_.erase(overflow_.begin(), overflow_.begin() + long(take));
}

void Engine::emit(Event type, ConnectionId id, int32_t a, int32_t b) {
  const int32_t record[RECORD_INTS] = {int32_t(type), id, a, b};
  emitRecords(record, 1);
}

void Engine::emitRecords(const int32_t* records, size_t count) {
  if (!overflow_.empty() || eventCount_ + count > EVENT_RECORDS) {
    overflow_.insert(overflow_.end(), records, records + count * RECORD_INTS);
    return;
  }
  std::memcpy(buffers_.events[buffer_] + eventCount_ * RECORD_INTS, records, count * RECORD_INTS * sizeof(int32_t));
  eventCount_ += count;
}

void Engine::publishFigures() {
  figures_.pipes = double(pipes_.count());
  figures_.timers = wheel_.count();
  std::memcpy(buffers_.metrics, &figures_, sizeof figures_);
}

}  // namespace ferrule
