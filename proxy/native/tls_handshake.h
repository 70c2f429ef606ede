// The handshake of one connection: OpenSSL over memory, never over the socket. It ends with the secrets our own record
// layer goes on with, and a report of who the peer is.
#pragma once
#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "tls_records.h"

namespace ferrule {

// A context for both roles from PEM texts; nullptr with `error` in OpenSSL's words.
SSL_CTX* makeTlsContext(const std::string& certificate, const std::string& key, const std::string& anchors, std::string& error);

class TlsHandshake {
 public:
  enum class Step : uint8_t { more, done, failed };

  // `parameters` of a client: u16 length and server name, u16 length and ALPN protocols in wire form. nullptr when OpenSSL
  // refuses.
  static std::unique_ptr<TlsHandshake> make(SSL_CTX* context, bool server, const uint8_t* parameters, size_t room);
  ~TlsHandshake();
  TlsHandshake(const TlsHandshake&) = delete;
  TlsHandshake& operator=(const TlsHandshake&) = delete;

  // Takes what the peer sent, and goes as far as it can.
  Step advance(const uint8_t* bytes, size_t length);
  // The peer went away, or the socket failed.
  void abandon(const char* why) { problem_ = why; }
  // What there is to send; the view is good until the next call.
  size_t output(const uint8_t** bytes);
  void clearOutput();
  // Bytes of the peer that are behind the handshake.
  size_t leftover(const uint8_t** bytes);
  // nullptr when OpenSSL refuses.
  std::unique_ptr<TlsRecords> records();
  // Writes what TypeScript reads as TlsReport; its length, at most REPORT_BYTES.
  size_t report(uint8_t* out, uint32_t micros) const;

  static constexpr size_t REPORT_BYTES = 8 * 1024;

 private:
  TlsHandshake() = default;
  static void onSecret(const SSL* ssl, const char* line);
  static int onVerify(int good, X509_STORE_CTX* store);
  friend SSL_CTX* makeTlsContext(const std::string&, const std::string&, const std::string&, std::string&);

  SSL* ssl_ = nullptr;
  bool server_ = false;
  TlsSecrets secrets_;
  const char* problem_ = nullptr;
  int verifyError_ = 0;
  int32_t skewSeconds_ = 0;     // a certificate was not valid yet by our clock, and was let pass
  uint32_t failedNotBefore_ = 0, failedNotAfter_ = 0;
};

}  // namespace ferrule
