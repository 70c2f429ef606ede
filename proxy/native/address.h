// Socket addresses in the shape TypeScript reads them: a family, a port and four 32-bit words.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

namespace ferrule {

// Mirrors SocketAddress in proxy/core/address.ts. IPv4 uses words[3] only; IPv4-mapped IPv6 is IPv4.
struct Address {
  uint16_t family = 0;  // 0 (none), 4 or 6
  uint16_t port = 0;
  uint32_t words[4] = {0, 0, 0, 0};

  bool operator==(const Address& other) const {
    return family == other.family && port == other.port && words[0] == other.words[0] &&
           words[1] == other.words[1] && words[2] == other.words[2] && words[3] == other.words[3];
  }

  // Five words as they cross to TypeScript: family << 16 | port, then the address.
  void store(int32_t* out) const;
  static Address load(const int32_t* in);

  static Address fromSockaddr(const sockaddr_storage& storage);
  // Returns the length of the sockaddr written to `storage`.
  socklen_t toSockaddr(sockaddr_storage& storage) const;
};

constexpr int ADDRESS_WORDS = 5;

}  // namespace ferrule
