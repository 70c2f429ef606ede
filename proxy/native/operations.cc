// What TypeScript asked for, record by record.
#include <cerrno>

#include <algorithm>

#include "engine.h"
#include "relay.h"

namespace ferrule {

void Engine::runOperations(int count) {
  for (int i = 0; i < count && running_; i++) execute(buffers_.operations + size_t(i) * RECORD_INTS);
}

void Engine::execute(const int32_t* record) {
  const auto operation = Operation(record[0]);
  Connection* found = find(record[1]);
  const int32_t a = record[2];
  const int32_t b = record[3];
  // Ended while the operation was on its way. Told rather than dropped: a caller that waits for an answer would hang.
  if (found == nullptr || (found->closeWanted && operation != Operation::reset)) {
    return refuse(record[1], record[0], operation == Operation::relay ? a : 0);
  }
  Connection& connection = *found;
  switch (operation) {
    case Operation::send:
      // What a relay has in hand goes out first, and only it knows where that is.
      if (a < 0 || b < 0 || size_t(a) + size_t(b) > SLAB_BYTES || connection.shutWanted || connection.relay != nullptr ||
          connection.handshaking()) {
        return refuse(record[1], record[0]);
      }
      return send(connection, buffers_.slab + a, size_t(b));
    case Operation::shutdown:
    case Operation::close:
      if (connection.relay != nullptr) return connection.relay->fail(connection, 0);
      // Before TLS is there, there is nothing that had to go out.
      if (operation == Operation::close && connection.handshaking()) return destroy(connection, 0, true);
      connection.shutWanted = true;
      connection.closeWanted = operation == Operation::close;
      connection.peerDone = connection.closeWanted && a == 1;
      connection.deaf = connection.closeWanted && a == 2;
      return afterFlush(connection);
    case Operation::reset:
      if (connection.relay != nullptr) return connection.relay->fail(connection, 0);
      return destroy(connection, 0, true);
    case Operation::pause:
      connection.paused = true;
      return;
    case Operation::resume:
      connection.paused = false;
      if (a == 1) connection.shared = true;
      return makeReady(connection);
    case Operation::link:
      return link(connection, a);
    case Operation::relay:
      return startRelay(connection, a);
    case Operation::unrelay:
      if (connection.relay != nullptr && !connection.relay->dissolve()) connection.relay->fail(connection, ENOMEM);
      return;
    case Operation::deadline:
      connection.deadlineNumber = b >> 1;
      return setDeadline(connection, uint32_t(std::max(a, 0)), DeadlineMode(b & 1));
    case Operation::count:
      if (a < 0 || b < 0 || size_t(std::max(a, b)) >= buffers_.metricsSlots) return;
      connection.readSlot = uint32_t(a);
      connection.writeSlot = uint32_t(b);
      return;
    case Operation::unread:
      if (a < 0 || b <= 0 || size_t(a) + size_t(b) > SLAB_BYTES) break;
      return settle(connection, record[0], unread(connection, buffers_.slab + a, size_t(b)));
    case Operation::startTls:
      return settle(connection, record[0], startTls(connection, a, b));
    case Operation::pass:
      return settle(connection, record[0], startPassing(connection, uint64_t(uint32_t(b)) << 32 | uint32_t(a)));
  }
  refuse(record[1], record[0]);
}

void Engine::refuse(ConnectionId id, int32_t operation, int32_t other) {
  figures_.deadOperations++;
  emit(Event::deadOperation, id, operation, other);
}

// Who asked goes on as if it had been done: without the bytes, or the handshake, there is no going on. A mistake harms nobody,
// and names the connection twice, so that it is told from one that has ended.
void Engine::settle(Connection& connection, int32_t operation, int error) {
  if (error == -EINVAL) return refuse(connection.id(), operation, connection.id());
  if (error != 0) destroy(connection, -error, true);
}

void Engine::startRelay(Connection& connection, ConnectionId otherId) {
  Connection* other = find(otherId);
  const bool possible = other != nullptr && other != &connection && other->state == State::open && !other->closeWanted &&
                        connection.state == State::open && !connection.handshaking() && !other->handshaking() &&
                        connection.relay == nullptr && other->relay == nullptr &&
                        !(connection.shutWanted && other->shutWanted);
  if (!possible) return refuse(otherId, int32_t(Operation::relay), connection.id());
  unlink(connection);
  unlink(*other);
  auto* relay = new Relay(*this, connection, *other);
  connection.relay = other->relay = relay;
  figures_.relays++;
  relay->serve(connection);
  if (connection.relay == relay) relay->serve(*other);
}

}  // namespace ferrule
