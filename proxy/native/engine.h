// The socket engine: moves bytes and decides nothing. One per environment (thread). Each turn of its loop gathers what
// happened into a batch of events, hands the batch to TypeScript in one call, and runs the operations that call left.
#pragma once
#include <sys/epoll.h>
#include <uv.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "connection.h"
#include "pipes.h"

namespace ferrule {

// The numbers below are shared with engine.ts.
enum class Event : int32_t {
  accepted = 1,       // a: listener, b: flags, then three addresses
  connected = 2,      // a: microseconds since connect
  connectFailed = 3,  // a: errno
  data = 4,           // a: offset, b: length in the slab
  end = 5,            // the peer will send no more
  blocked = 6,        // its write queue is above HIGH_WATER
  drained = 7,        // … and below LOW_WATER again
  closed = 8,         // a: errno, b: bit 0: the other side of a relay caused it, rest: TLS alert + 1 (ALERT_OURS: we
                      // sent it); then bytes each way
  deadline = 9,       // a: the number it was set with
  acceptPaused = 10,  // id: listener, a: errno
  acceptResumed = 11,
  deadOperation = 12,  // a: the operation, b: another id it concerns
  secured = 13,        // mutual TLS is there; a: offset, b: length of a report in the slab
  tlsFailed = 14,      // the same; closed follows
  passed = 15,         // what was to be passed on has been; a, b: low and high half of what was not, when the link ended before
};

enum class Operation : int32_t {
  send = 1,      // offset, length
  shutdown = 2,  // ends our side once everything is out
  close = 3,     // ends both sides once everything is out; 1: the peer has promised to send no more, 2: what it sends stays unread
  reset = 4,
  pause = 5,
  resume = 6,
  link = 7,      // other id or 0: reading waits while the other's queue is high
  relay = 8,     // other id
  unrelay = 9,
  deadline = 10,  // ms (0: none), number << 1 | mode
  count = 11,     // read slot, write slot
  unread = 12,    // offset, length: received bytes that whoever comes next reads again
  startTls = 13,  // context << 1 | server, offset of a client's parameters
  pass = 14,      // length, low and high half: so many bytes go to the connection it is linked to
};

constexpr int32_t ACCEPT_FLAG_OWN = 1;  // the peer is an upstream socket of this process

constexpr int ALERT_OURS = 0x100;

constexpr size_t RECORD_INTS = 4;

// Records per batch. A turn stops serving when fewer than EVENT_RESERVE are left; what is over waits a turn.
constexpr size_t EVENT_RECORDS = 4096;
constexpr size_t EVENT_RESERVE = 16;
constexpr size_t OPERATION_RECORDS = 4096;

// Receive part of the slab: 1 MB is 64 reads of READ_BYTES, more than one turn serves in practice; only touched pages
// cost memory. The rest is TypeScript's to build output in, 1 MB that is free again after each batch and 2 MB that is kept.
constexpr size_t SLAB_RECEIVE_BYTES = 1 << 20;
constexpr size_t SLAB_BYTES = 4 << 20;

// One read towards TypeScript: 16 KB is a TLS record and more than nearly every HTTP head.
constexpr size_t READ_BYTES = 16 * 1024;

// … of a connection that many streams share: what the window of one lets come at once (RFC 9113 section 6.9.2), since bulk costs
// calls, and those behind it wait as long either way.
constexpr size_t SHARED_READ_BYTES = 64 * 1024;

// Left free before each read, as engine.ts promises: the frame that goes on in it gets a header there, and all of it leaves in one piece. A
// multiple of 8, as reads begin at those.
constexpr size_t FREE_BYTES = 16;

// What one read needs: opened, a record that had begun before comes on top of it.
constexpr size_t READ_ROOM = FREE_BYTES + SHARED_READ_BYTES + RECORD_MAX_BYTES;
static_assert(READ_ROOM >= TlsHandshake::REPORT_BYTES);

// A peer that does not read: others stop feeding it above 64 KB (a typical socket buffer more), and go on below 16 KB.
constexpr size_t HIGH_WATER = 64 * 1024;
constexpr size_t LOW_WATER = 16 * 1024;

// Sends that ignore the high-water event are cut here, with ENOBUFS: memory per connection is bounded. A peer that opens its
// windows gets in one batch what all streams of its connection hold for it, 16 MB at the most (http/h2/options.ts).
constexpr size_t QUEUE_LIMIT = 20 << 20;

// What one direction may move natively before the others get their turn.
constexpr size_t TURN_BYTES = 1 << 20;

// Scratch for relays that copy: 256 KB per read halves the CPU per byte of 64 KB.
constexpr size_t STAGING_BYTES = 256 * 1024;
constexpr size_t STAGING_ROOM = STAGING_BYTES + RECORD_MAX_BYTES;
constexpr size_t SEALED_ROOM = sealedBytes(STAGING_ROOM);

// Dialled sockets get keep-alive when they are this old: the probes begin after 10 s of silence at the earliest, and the
// four calls it takes are 1 % of what a short connection costs.
constexpr uint32_t KEEPALIVE_AFTER_MS = 5000;

// The first numbers of the metrics slab, in the order of ENGINE_FIGURES in proxy/metrics/families.ts.
struct Figures {
  double connections, relays, pipes, queuedBytes, turns, events, accepted, acceptPaused, splicedBytes, copiedBytes,
      timers, deadOperations;
};

// Marks a listener in epoll_event.data; its number is in the low bits.
constexpr uint64_t TAG_LISTENER = 1ull << 61;

uint64_t monotonicUs();

struct Listener {
  int fd = -1;
  bool transparent = false;  // look up original destinations
  bool paused = false;       // out of descriptors; retried every tick
  bool ready = false;
};

// A dialled socket without keep-alive yet.
struct Young {
  ConnectionId id;
  uint32_t grownTick;
};

class Engine;

// Hands a batch to TypeScript, which runs its operations before it returns; false when it cannot be called.
using BatchCallback = bool (*)(void* context, int buffer, int records);

struct Buffers {
  int32_t* events[2];
  int32_t* operations;
  uint8_t* slab;
  double* metrics;
  size_t metricsSlots;
};

class Engine {
 public:
  Engine(uv_loop_t* loop, const Buffers& buffers, BatchCallback callback, void* context);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // 0 or -errno.
  int start();
  // Resets every connection and leaves the loop; `done` is called when the last handle is closed.
  void stop(void (*done)(void*), void* context);

  // The listener's number or -errno. The descriptor stays the caller's.
  int addListener(int fd, bool transparent);
  void removeListener(int number);
  // The connection's id or -errno.
  int connect(const Address& remote, bool track);
  // Takes the context; its number for startTls.
  int addContext(SSL_CTX* context);
  void dropContext(int number);
  // Looks at the clock; needed before operations, whose deadlines count from now. What is due is for the next turn: one of
  // these operations may take it away.
  void refreshClock();
  // Runs the first `count` records of the operations buffer.
  void runOperations(int count);

 private:
  friend struct Relay;

  // --- the loop (engine.cc)
  static void onCheck(uv_check_t* handle);
  void turn(int timeoutMs);
  void fireTimers();
  int sleepMs();
  // Since the current tick of the wheel began: the wheel stands still while TypeScript runs.
  uint32_t elapsedMs() const { return uint32_t((nowUs_ - startUs_) / 1000 - uint64_t(wheel_.now()) * TICK_MS); }
  int youngMs() const;
  void keepAliveGrown();
  void takeReadiness(const epoll_event& event);
  void serveReady();
  void serve(Connection& connection);
  void onDeadline(Connection& connection);
  void deliver();
  void beginBatch();
  void publishFigures();

  // --- events
  bool roomForEvents() const { return eventCount_ + EVENT_RESERVE <= EVENT_RECORDS && overflow_.empty(); }
  void emit(Event type, ConnectionId id, int32_t a = 0, int32_t b = 0);
  void emitRecords(const int32_t* records, size_t count);

  // --- accepting and connecting (accept.cc)
  void acceptPending(int number);
  void pauseAccept(int number, int error);
  void retryPausedListeners();
  void announce(int number, Connection& connection, const Address& peer);
  void finishConnect(Connection& connection);

  // --- connections (connection.cc)
  Connection* allocate(int fd, State state);
  Connection* find(ConnectionId id);
  void makeReady(Connection& connection);
  void execute(const int32_t* record);
  void refuse(ConnectionId id, int32_t operation, int32_t other = 0);
  void settle(Connection& connection, int32_t operation, int error);
  void startRelay(Connection& connection, ConnectionId other);
  void setDeadline(Connection& connection, uint32_t ms, DeadlineMode mode);
  void readForTypeScript(Connection& connection);
  bool isHeldBack(const Connection& connection) const;
  bool isBroken(const Connection& connection) const;
  void heldBack(Connection& connection);
  int startPassing(Connection& connection, uint64_t length);
  bool passOn(Connection& connection);
  void discardInput(Connection& connection);
  void endOfStream(Connection& connection);
  void send(Connection& connection, const uint8_t* bytes, size_t length);
  void flush(Connection& connection);
  void afterFlush(Connection& connection);
  void leave(Connection& connection);
  void writeFailed(Connection& connection, int error);
  void link(Connection& connection, ConnectionId other);
  void unlink(Connection& connection);
  void destroy(Connection& connection, int error, bool reset, bool causedByOther = false);
  void release(Connection& connection, bool reset);

  void endOutput(Connection& connection);

  // --- bytes (connection.cc): -errno instead of -1. What is read is opened, what is written sealed, where there is TLS.
  // Reads about `length` bytes; with TLS up to a record more, or -EAGAIN although the socket is still readable.
  ssize_t readSome(Connection& connection, uint8_t* into, size_t length);
  // Writes what the kernel takes and queues the rest; 0 or -errno.
  int writeOrQueue(Connection& connection, const uint8_t* bytes, size_t length);
  // The socket itself. `receive` clears `readable` once the socket is empty.
  ssize_t receive(Connection& connection, uint8_t* into, size_t length);
  ssize_t writeSome(Connection& connection, const void* from, size_t length);
  int writeRaw(Connection& connection, const uint8_t* bytes, size_t length);
  void countRead(Connection& connection, size_t length);
  void countWritten(Connection& connection, size_t length);
  void waitForWrite(Connection& connection);

  // --- mutual TLS (secure.cc)
  // 0 or -errno: EINVAL when the connection is in no state for it.
  int startTls(Connection& connection, int32_t contextAndRole, int32_t parameters);
  int unread(Connection& connection, const uint8_t* bytes, size_t length);
  void continueHandshake(Connection& connection);
  void advanceHandshake(Connection& connection, const uint8_t* bytes, size_t length);
  void sendHandshake(Connection& connection);
  void handshakeDone(Connection& connection);
  void handshakeFailed(Connection& connection, int error);
  void emitReport(Event event, Connection& connection);
  ssize_t readSecured(Connection& connection, uint8_t* into, size_t length);
  int writeSecured(Connection& connection, const uint8_t* bytes, size_t length);
  int breakOff(Connection& connection);
  void sendCloseNotify(Connection& connection);
  void returnMemory();

  uv_loop_t* loop_;
  uv_check_t check_;
  uv_idle_t idle_;
  Buffers buffers_;
  BatchCallback callback_;
  void* context_;
  void (*stopped_)(void*) = nullptr;
  void* stoppedContext_ = nullptr;
  int openHandles_ = 0;
  bool running_ = false;
  bool loopCalls_ = false;  // libuv has something to do

  int epoll_ = -1;
  uint64_t nowUs_ = 0;
  uint64_t startUs_ = 0;
  uint32_t nowTick_ = 0;  // of the clock; the wheel comes up to it when timers fire
  Wheel wheel_;
  PipePool pipes_;
  Figures figures_ = {};

  std::deque<Connection> connections_;  // never moves, never shrinks: bounded by the peak
  std::deque<uint32_t> free_;           // oldest first, so that an id comes back as late as possible
  std::vector<uint32_t> quarantine_;    // freed, but TypeScript has not returned from hearing of it
  std::vector<Connection*> ready_, serving_;
  std::vector<Listener> listeners_;
  std::deque<Young> young_;  // oldest first

  int buffer_ = 0;  // which events buffer is being filled
  size_t eventCount_ = 0;
  std::vector<int32_t> overflow_;  // events that found no room; in order behind the buffer
  size_t slabUsed_ = 0;
  std::unique_ptr<uint8_t[]> staging_;  // plaintext of relays
  std::unique_ptr<uint8_t[]> sealed_;   // TLS records, in or out
  struct ContextDeleter {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  std::vector<std::unique_ptr<SSL_CTX, ContextDeleter>> contexts_;
  size_t handshakes_ = 0;  // on their way
  bool burst_ = false;     // there were many at once, and what they took has not been given back
  uint32_t burstTick_ = 0;
};

}  // namespace ferrule
