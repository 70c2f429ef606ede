#include "sockets.h"

#include <arpa/inet.h>
#include <cerrno>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cstring>

namespace ferrule {

namespace {

// IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h, whose header clashes with netinet/in.h.
constexpr int ORIGINAL_DST_V6 = 80;

// A dead peer is noticed after 10 s + 3 × 10 s, also when nothing is being sent. TCP_USER_TIMEOUT is left alone: it kills
// a living peer whose window is closed; while connecting, the deadline of the engine does its work.
constexpr int KEEPALIVE_IDLE_S = 10;
constexpr int KEEPALIVE_INTERVAL_S = 10;
constexpr int KEEPALIVE_PROBES = 3;

bool setInt(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

bool setNoDelay(int fd) { return setInt(fd, IPPROTO_TCP, TCP_NODELAY, 1); }


int closeWithError(int fd) {
  const int error = errno;
  close(fd);
  return -error;
}

int openStream(const Address& address) {
  const int family = address.family == 4 ? AF_INET : AF_INET6;
  return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
}

}  // namespace

bool setKeepAlive(int fd) {
  return setInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S) &&
         setInt(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) &&
         setInt(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES) && setInt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void Address::store(int32_t* out) const {
  out[0] = (int32_t(family) << 16) | port;
  std::memcpy(out + 1, words, sizeof words);
}

Address Address::load(const int32_t* in) {
  Address address;
  address.family = uint16_t(uint32_t(in[0]) >> 16);
  address.port = uint16_t(in[0]);
  std::memcpy(address.words, in + 1, sizeof address.words);
  return address;
}

Address Address::fromSockaddr(const sockaddr_storage& storage) {
  Address address;
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    address.family = 4;
    address.port = ntohs(v4.sin_port);
    address.words[3] = ntohl(v4.sin_addr.s_addr);
  } else if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    address.port = ntohs(v6.sin6_port);
    uint32_t words[4];
    std::memcpy(words, &v6.sin6_addr, sizeof words);
    const bool mapped = words[0] == 0 && words[1] == 0 && words[2] == htonl(0xffff);
    address.family = mapped ? 4 : 6;
    for (int i = mapped ? 3 : 0; i < 4; i++) address.words[i] = ntohl(words[i]);
  }
  return address;
}

socklen_t Address::toSockaddr(sockaddr_storage& storage) const {
  std::memset(&storage, 0, sizeof storage);
  if (family == 4) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = htonl(words[3]);
    return sizeof v4;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  uint32_t network[4];
  for (int i = 0; i < 4; i++) network[i] = htonl(words[i]);
  std::memcpy(&v6.sin6_addr, network, sizeof network);
  return sizeof v6;
}

int openListener(const Address& address, int backlog, bool reusePort) {
  const int fd = openStream(address);
  if (fd < 0) return -errno;
  sockaddr_storage storage;
  const socklen_t length = address.toSockaddr(storage);
  const bool ready = setInt(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
                     (!reusePort || setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
                     (address.family == 4 || setInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) && setNoDelay(fd) && setKeepAlive(fd) &&
                     bind(fd, reinterpret_cast<sockaddr*>(&storage), length) == 0 && listen(fd, backlog) == 0;
  return ready ? fd : closeWithError(fd);
}

int acceptConnection(int listener, Address& peer) {
  sockaddr_storage storage;
  socklen_t length = sizeof storage;
  const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&storage), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return -errno;
  peer = Address::fromSockaddr(storage);
  return fd;
}

Address localAddress(int fd) {
  sockaddr_storage storage;
  socklen_t length = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return Address{};
  return Address::fromSockaddr(storage);
}

Address originalDestination(int fd, const Address& local) {
  sockaddr_storage storage;
  socklen_t length = sizeof storage;
  // An IPv4-mapped connection is translated by the IPv4 tables.
  const bool v4 = local.family == 4;
  const int result = getsockopt(fd, v4 ? SOL_IP : SOL_IPV6, v4 ? SO_ORIGINAL_DST : ORIGINAL_DST_V6, &storage, &length);
  // ENOENT where connection tracking does not know the connection: it was not redirected.
  return result == 0 ? Address::fromSockaddr(storage) : Address{};
}

int startConnect(const Address& remote) {
  const int fd = openStream(remote);
  if (fd < 0) return -errno;
  if (!setNoDelay(fd)) return closeWithError(fd);
  sockaddr_storage storage;
  const socklen_t length = remote.toSockaddr(storage);
  if (connect(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0 && errno != EINPROGRESS) {
    return closeWithError(fd);
  }
  return fd;
}

void armReset(int fd) {
  const linger hard = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

int takeSocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

}  // namespace ferrule
