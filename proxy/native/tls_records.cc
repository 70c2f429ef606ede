#include "tls_records.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstring>

namespace ferrule {

namespace {

constexpr uint8_t TYPE_ALERT = 21;
constexpr uint8_t TYPE_HANDSHAKE = 22;
constexpr uint8_t TYPE_DATA = 23;

constexpr uint8_t MESSAGE_TICKET = 4;
constexpr uint8_t MESSAGE_KEY_UPDATE = 24;
constexpr uint8_t MESSAGE_HEADER_BYTES = 4;

// AES-GCM is safe for 2^24.5 full records under one key (RFC 8446 section 5.5); half of that is 128 GB.
constexpr uint64_t RECORDS_PER_KEY = uint64_t(1) << 23;

// Empty records, tickets and key updates in a row: each costs us work and the peer nothing. Servers send two tickets.
constexpr uint16_t MAX_RECORDS_WITHOUT_DATA = 32;

// A key update costs us ten times what a record does, and may have data behind it. Nobody
// needs one a second; those who test a peer make a few at once.
constexpr uint16_t MAX_KEY_UPDATES = 64;

// A ticket longer than this is nobody's.
constexpr uint32_t MAX_TICKET_BYTES = 1 << 16;

// HKDF-Expand-Label with an empty context (section 7.1); `length` is at most one block of the digest.
bool expandLabel(const EVP_MD* digest, const uint8_t* secret, const char* label, uint8_t* out, size_t length) {
  uint8_t info[32];
  const size_t labelLength = std::strlen(label);
  size_t used = 0;
  info[used++] = uint8_t(length >> 8);
  info[used++] = uint8_t(length);
  info[used++] = uint8_t(6 + labelLength);
  std::memcpy(info + used, "tls13 ", 6);
  std::memcpy(info + used + 6, label, labelLength);
  used += 6 + labelLength;
  info[used++] = 0;
  info[used++] = 1;  // the first and only block of HKDF-Expand (RFC 5869 section 2.3)
  uint8_t block[EVP_MAX_MD_SIZE];
  unsigned int blockLength = 0;
  const int secretLength = EVP_MD_get_size(digest);
  if (HMAC(digest, secret, secretLength, info, used, block, &blockLength) == nullptr || blockLength < length) return false;
  std::memcpy(out, block, length);
  OPENSSL_cleanse(block, sizeof block);
  return true;
}

}  // namespace

TrafficKey::~TrafficKey() {
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(secret_, sizeof secret_);
}

bool TrafficKey::start(const EVP_CIPHER* cipher, const EVP_MD* digest, const uint8_t* secret, bool sealing) {
  context_ = EVP_CIPHER_CTX_new();
  digest_ = digest;
  const auto length = size_t(EVP_MD_get_size(digest));
  if (context_ == nullptr || length > sizeof secret_) return false;
  std::memcpy(secret_, secret, length);
  return EVP_CipherInit_ex(context_, cipher, nullptr, nullptr, nullptr, sealing ? 1 : 0) == 1 && derive();
}

bool TrafficKey::update() {
  uint8_t next[sizeof secret_] = {};
  if (!expandLabel(digest_, secret_, "traffic upd", next, size_t(EVP_MD_get_size(digest_)))) return false;
  std::memcpy(secret_, next, sizeof secret_);
  OPENSSL_cleanse(next, sizeof next);
  return derive();
}

bool TrafficKey::derive() {
  uint8_t key[EVP_MAX_KEY_LENGTH];
  const auto keyLength = size_t(EVP_CIPHER_CTX_get_key_length(context_));
  sequence_ = 0;
  const bool made = expandLabel(digest_, secret_, "key", key, keyLength) &&
                    expandLabel(digest_, secret_, "iv", iv_, sizeof iv_) &&
                    EVP_CipherInit_ex(context_, nullptr, nullptr, key, nullptr, -1) == 1;
  OPENSSL_cleanse(key, sizeof key);
  return made;
}

// Nonce (section 5.3) and additional data.
bool TrafficKey::beginRecord(const uint8_t* header) {
  uint8_t nonce[sizeof iv_];
  std::memcpy(nonce, iv_, sizeof nonce);
  for (int i = 0; i < 8; i++) nonce[sizeof nonce - 1 - size_t(i)] ^= uint8_t(sequence_ >> (8 * i));
  sequence_++;
  int length;
  return EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, nonce, -1) == 1 &&
         EVP_CipherUpdate(context_, nullptr, &length, header, RECORD_HEADER_BYTES) == 1;
}

size_t TrafficKey::seal(uint8_t type, const uint8_t* from, size_t length, uint8_t* out) {
  const size_t body = length + 1 + RECORD_TAG_BYTES;
  out[0] = TYPE_DATA;
  out[1] = 3;
  out[2] = 3;
  out[3] = uint8_t(body >> 8);
  out[4] = uint8_t(body);
  uint8_t* sealed = out + RECORD_HEADER_BYTES;
  int written = 0;
  const bool done = beginRecord(out) &&
                    (length == 0 || EVP_EncryptUpdate(context_, sealed, &written, from, int(length)) == 1) &&
                    EVP_EncryptUpdate(context_, sealed + length, &written, &type, 1) == 1 &&
                    EVP_EncryptFinal_ex(context_, sealed + length + 1, &written) == 1 &&
                    EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, RECORD_TAG_BYTES, sealed + length + 1) == 1;
  return done ? RECORD_HEADER_BYTES + body : 0;
}

bool TrafficKey::open(const uint8_t* record, size_t length, uint8_t* into) {
  const size_t body = length - RECORD_HEADER_BYTES - RECORD_TAG_BYTES;
  const uint8_t* sealed = record + RECORD_HEADER_BYTES;
  int written = 0;
  // OpenSSL takes the tag as non-const and only reads it.
  auto* tag = const_cast<uint8_t*>(sealed + body);
  return beginRecord(record) && EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_TAG, RECORD_TAG_BYTES, tag) == 1 &&
         EVP_DecryptUpdate(context_, into, &written, sealed, int(body)) == 1 &&
         EVP_DecryptFinal_ex(context_, into + body, &written) == 1;
}

std::unique_ptr<TlsRecords> TlsRecords::make(const TlsSecrets& secrets, bool server) {
  auto records = std::make_unique<TlsRecords>();
  records->server_ = server;
  const uint8_t* mine = server ? secrets.server : secrets.client;
  const uint8_t* theirs = server ? secrets.client : secrets.server;
  const bool made = records->writing_.start(secrets.cipher, secrets.digest, mine, true) &&
                    records->reading_.start(secrets.cipher, secrets.digest, theirs, false);
  return made ? std::move(records) : nullptr;
}

size_t TlsRecords::seal(const uint8_t* from, size_t length, uint8_t* out) {
  size_t used = 0;
  if (keyUpdateDue_ || writing_.records() >= RECORDS_PER_KEY) {
    used = sealKeyUpdate(out);
    if (used == 0) return 0;
  }
  for (size_t at = 0; at < length; at += RECORD_PLAIN_BYTES) {
    const size_t sealed = writing_.seal(TYPE_DATA, from + at, std::min(RECORD_PLAIN_BYTES, length - at), out + used);
    if (sealed == 0) return 0;
    used += sealed;
  }
  return used;
}

size_t TlsRecords::sealAlert(Alert alert, uint8_t* out) {
  const bool warning = alert == Alert::closeNotify || alert == Alert::userCanceled;
  const uint8_t body[2] = {uint8_t(warning ? 1 : 2), uint8_t(alert)};
  return writing_.seal(TYPE_ALERT, body, sizeof body, out);
}

size_t TlsRecords::sealKeyUpdate(uint8_t* out) {
  // update_not_requested: the peer keeps count of its own.
  const uint8_t message[] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0};
  const size_t sealed = writing_.seal(TYPE_HANDSHAKE, message, sizeof message, out);
  keyUpdateDue_ = false;
  return sealed > 0 && writing_.update() ? sealed : 0;
}

OpenedBytes TlsRecords::open(const uint8_t* from, size_t length, uint8_t* into) {
  OpenedBytes opened;
  while (!opened.closed && opened.peerAlert < 0 && length - opened.consumed >= RECORD_HEADER_BYTES) {
    const uint8_t* record = from + opened.consumed;
    const size_t body = size_t(record[3]) << 8 | record[4];
    const size_t whole = RECORD_HEADER_BYTES + body;
    // After the handshake every record looks like application data (section 5.2).
    if (record[0] != TYPE_DATA || record[1] != 3) {
      opened.sendAlert = int(Alert::unexpectedMessage);
    } else if (whole > RECORD_MAX_BYTES) {
      opened.sendAlert = int(Alert::recordOverflow);
    } else if (body <= RECORD_TAG_BYTES) {
      opened.sendAlert = int(Alert::badRecordMac);
    } else if (length - opened.consumed < whole) {
      break;
    } else {
      opened.sendAlert = openRecord(record, whole, into + opened.produced, opened);
    }
    if (opened.sendAlert >= 0) break;
    opened.consumed += whole;
    opened.records++;
  }
  return opened;
}

// The alert to send, or -1.
int TlsRecords::openRecord(const uint8_t* record, size_t length, uint8_t* into, OpenedBytes& opened) {
  if (!reading_.open(record, length, into)) return int(Alert::badRecordMac);
  size_t plain = length - RECORD_HEADER_BYTES - RECORD_TAG_BYTES;
  // Padding does not lift the limit, which is that of content and type together (section 5.4).
  if (plain > RECORD_PLAIN_BYTES + 1) return int(Alert::recordOverflow);
  while (plain > 0 && into[plain - 1] == 0) plain--;
  if (plain == 0) return int(Alert::unexpectedMessage);
  const uint8_t type = into[--plain];
  // A message may not be interrupted by another kind of record (section 5.1).
  const bool amidMessage = headerHeld_ > 0;
  if (type == TYPE_DATA && plain > 0 && !amidMessage) {
    recordsWithoutData_ = 0;
    opened.produced += plain;
    return -1;
  }
  if (++recordsWithoutData_ > MAX_RECORDS_WITHOUT_DATA) return int(Alert::unexpectedMessage);
  if (type == TYPE_HANDSHAKE) return plain > 0 ? handshakeMessages(into, plain) : int(Alert::unexpectedMessage);
  if (amidMessage) return int(Alert::unexpectedMessage);
  if (type == TYPE_DATA) return -1;
  if (type != TYPE_ALERT) return int(Alert::unexpectedMessage);
  if (plain != 2) return int(Alert::decodeError);
  if (into[1] == uint8_t(Alert::closeNotify)) {
    opened.closed = true;
  } else if (into[1] != uint8_t(Alert::userCanceled)) {
    opened.peerAlert = into[1];
  }
  return -1;
}

// Messages behind the handshake: tickets, which we do not want, and key updates.
int TlsRecords::handshakeMessages(const uint8_t* bytes, size_t length) {
  for (size_t at = 0; at < length;) {
    if (headerHeld_ < MESSAGE_HEADER_BYTES) {
      const uint8_t byte = bytes[at++];
      if (headerHeld_++ == 0) {
        messageType_ = byte;
        bodyLeft_ = 0;
        continue;
      }
      bodyLeft_ = bodyLeft_ << 8 | byte;
      if (headerHeld_ < MESSAGE_HEADER_BYTES) continue;
      const bool known = messageType_ == MESSAGE_KEY_UPDATE || (messageType_ == MESSAGE_TICKET && !server_);
      if (!known) return int(Alert::unexpectedMessage);
      const bool sized = messageType_ == MESSAGE_KEY_UPDATE ? bodyLeft_ == 1 : bodyLeft_ > 0 && bodyLeft_ <= MAX_TICKET_BYTES;
      if (!sized) return int(Alert::decodeError);
      continue;
    }
    const size_t taken = std::min(size_t(bodyLeft_), length - at);
    updateRequest_ = bytes[at];
    at += taken;
    bodyLeft_ -= uint32_t(taken);
    if (bodyLeft_ > 0) continue;
    const int alert = finishMessage(at == length);
    if (alert >= 0) return alert;
  }
  return -1;
}

int TlsRecords::finishMessage(bool atRecordEnd) {
  headerHeld_ = 0;
  if (messageType_ != MESSAGE_KEY_UPDATE) return -1;
  // What follows is under the new key, so that nothing may follow in the same record.
  if (!atRecordEnd) return int(Alert::unexpectedMessage);
  if (updateRequest_ > 1) return int(Alert::illegalParameter);
  if (++keyUpdates_ > MAX_KEY_UPDATES) return int(Alert::unexpectedMessage);
  if (updateRequest_ == 1) keyUpdateDue_ = true;
  return reading_.update() ? -1 : int(Alert::badRecordMac);
}

}  // namespace ferrule
