// Every socket call that needs care or a privilege, in one place. Functions return a descriptor, 0 or -errno.
#pragma once
#include "address.h"

namespace ferrule {

// Creates a bound, listening, non-blocking socket. Options that accepted sockets inherit are set here, once, instead
// of on each of them. With `reusePort`, several sockets of this process share the address.
int openListener(const Address& address, int backlog, bool reusePort);

// Accepts one connection and reports the peer.
int acceptConnection(int listener, Address& peer);

// The address of our own end; family 0 when the kernel does not tell.
Address localAddress(int fd);

// Where the client wanted to go before the redirect; family 0 when the connection was not redirected.
Address originalDestination(int fd, const Address& local);

// Starts a non-blocking connect. A positive result is the descriptor of a connection under way.
int startConnect(const Address& remote);

// Lets the kernel find out that a silent peer is dead. Listeners have it, and what they accept inherits it.
bool setKeepAlive(int fd);

// Makes the coming close() send a reset instead of an orderly end.
void armReset(int fd);

// Takes the pending error off a socket; 0 when there is none.
int takeSocketError(int fd);

}  // namespace ferrule
