#include "own_sockets.h"

namespace ferrule {

OwnSockets& OwnSockets::instance() {
  static OwnSockets sockets;
  return sockets;
}

size_t OwnSockets::Hash::operator()(const SocketPair& pair) const {
  // FNV-1a over the words; the table is keyed by addresses of our own sockets, not by anything an attacker chooses.
  uint64_t hash = 1469598103934665603ull;
  const auto mix = [&hash](uint32_t word) { hash = (hash ^ word) * 1099511628211ull; };
  for (const Address* address : {&pair.local, &pair.remote}) {
    mix(address->port);
    for (uint32_t word : address->words) mix(word);
  }
  return size_t(hash);
}

const SocketPair* OwnSockets::add(const SocketPair& pair) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return &*pairs_.insert(pair).first;
}

void OwnSockets::remove(const SocketPair* pair) {
  const std::lock_guard<std::mutex> lock(mutex_);
  pairs_.erase(SocketPair(*pair));
}

bool OwnSockets::contains(const SocketPair& pair) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pairs_.count(pair) != 0;
}

}  // namespace ferrule
