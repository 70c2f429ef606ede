// The upstream sockets of this process, by their two addresses: an accepted connection whose peer and original
// destination match one of them is our own, come back through the redirect (a loop caused by a wrong uid).
#pragma once
#include <mutex>
#include <unordered_set>

#include "address.h"

namespace ferrule {

// The two addresses of one socket.
struct SocketPair {
  Address local, remote;
  bool operator==(const SocketPair& other) const { return local == other.local && remote == other.remote; }
};

class OwnSockets {
 public:
  // Shared by all engines of the process: the loop may come back to another worker.
  static OwnSockets& instance();

  // The result stays valid until it is removed.
  const SocketPair* add(const SocketPair& pair);
  void remove(const SocketPair* pair);
  bool contains(const SocketPair& pair);

 private:
  struct Hash {
    size_t operator()(const SocketPair& pair) const;
  };
  std::mutex mutex_;
  std::unordered_set<SocketPair, Hash> pairs_;
};

}  // namespace ferrule
