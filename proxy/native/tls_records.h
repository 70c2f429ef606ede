// TLS 1.3 records (RFC 8446 section 5) with the keys a finished handshake left behind. OpenSSL makes the handshake and
// does the arithmetic; the record layer is ours, because an SSL object costs 30 KB per idle connection and copies every
// byte once more, and this costs 3 KB and none.
#pragma once
#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace ferrule {

constexpr size_t RECORD_HEADER_BYTES = 5;
constexpr size_t RECORD_TAG_BYTES = 16;
constexpr size_t RECORD_PLAIN_BYTES = 1 << 14;  // the most that one record carries (section 5.1)
// Header, content type, tag.
constexpr size_t RECORD_OVERHEAD_BYTES = RECORD_HEADER_BYTES + 1 + RECORD_TAG_BYTES;
// The longest record a peer may send, padding included (section 5.2).
constexpr size_t RECORD_MAX_BYTES = RECORD_HEADER_BYTES + RECORD_PLAIN_BYTES + 256;

// Room for `plain` bytes and a key update before them.
constexpr size_t sealedBytes(size_t plain) { return plain + (plain / RECORD_PLAIN_BYTES + 2) * (RECORD_OVERHEAD_BYTES + 5); }

// Section 6.2; those we send.
enum class Alert : uint8_t {
  closeNotify = 0,
  unexpectedMessage = 10,
  badRecordMac = 20,
  recordOverflow = 22,
  illegalParameter = 47,
  decodeError = 50,
  userCanceled = 90,
};

// What the handshake agreed on.
struct TlsSecrets {
  const EVP_CIPHER* cipher = nullptr;
  const EVP_MD* digest = nullptr;
  uint8_t client[EVP_MAX_MD_SIZE] = {};
  uint8_t server[EVP_MAX_MD_SIZE] = {};
  size_t clientLength = 0, serverLength = 0;
};

// The key of one direction.
class TrafficKey {
 public:
  TrafficKey() = default;
  TrafficKey(const TrafficKey&) = delete;
  TrafficKey& operator=(const TrafficKey&) = delete;
  ~TrafficKey();

  // False when OpenSSL refuses.
  bool start(const EVP_CIPHER* cipher, const EVP_MD* digest, const uint8_t* secret, bool sealing);
  // The next generation of the key (section 7.2).
  bool update();
  uint64_t records() const { return sequence_; }

  // One record from `length` bytes to `out`; its size, 0 when OpenSSL refuses.
  size_t seal(uint8_t type, const uint8_t* from, size_t length, uint8_t* out);
  // The plaintext of a whole record, content type and padding still behind it; false when it is not authentic.
  bool open(const uint8_t* record, size_t length, uint8_t* into);

 private:
  bool derive();
  bool beginRecord(const uint8_t* header);

  EVP_CIPHER_CTX* context_ = nullptr;
  const EVP_MD* digest_ = nullptr;
  uint64_t sequence_ = 0;
  uint8_t iv_[12] = {};
  uint8_t secret_[48] = {};  // SHA-384 at most
};

// What `TlsRecords::open` made of a stretch of bytes.
struct OpenedBytes {
  size_t consumed = 0;  // the rest is the beginning of a record
  size_t produced = 0;
  size_t records = 0;
  bool closed = false;   // the peer's close_notify: nothing behind it counts
  int sendAlert = -1;    // the peer broke the protocol: tell it this, and end
  int peerAlert = -1;    // the peer gave up, and why
};

// Both directions of one connection.
class TlsRecords {
 public:
  // nullptr when OpenSSL refuses.
  static std::unique_ptr<TlsRecords> make(const TlsSecrets& secrets, bool server);

  // Seals any number of bytes into as many records as it takes; `out` has room for sealedBytes(length). 0: refused.
  size_t seal(const uint8_t* from, size_t length, uint8_t* out);
  // One alert record.
  size_t sealAlert(Alert alert, uint8_t* out);
  // Opens whole records. `into` has room for `length` bytes.
  OpenedBytes open(const uint8_t* from, size_t length, uint8_t* into);
  // The peer may change its key MAX_KEY_UPDATES times until this is called again: once a second is meant.
  void allowKeyUpdates() { keyUpdates_ = 0; }

 private:
  int openRecord(const uint8_t* record, size_t length, uint8_t* into, OpenedBytes& opened);
  int handshakeMessages(const uint8_t* bytes, size_t length);
  int finishMessage(bool atRecordEnd);
  size_t sealKeyUpdate(uint8_t* out);

  bool server_ = false;
  bool keyUpdateDue_ = false;   // the peer asked for one
  uint8_t messageType_ = 0;     // of the handshake message being read
  uint8_t headerHeld_ = 0;      // bytes of its header so far
  uint8_t updateRequest_ = 0;   // the body of a key update
  uint16_t recordsWithoutData_ = 0;
  uint16_t keyUpdates_ = 0;
  uint32_t bodyLeft_ = 0;
  TrafficKey reading_, writing_;
};

}  // namespace ferrule
