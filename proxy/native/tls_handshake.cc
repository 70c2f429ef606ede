#include "tls_handshake.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <ctime>

namespace ferrule {

namespace {

// How far in the future a certificate may begin, in seconds. Clocks differ by a minute or two where nobody watches them;
// the report says by how much, so that somebody does.
constexpr int CLOCK_TOLERANCE_S = 300;

// Names of a certificate longer than this, together, are refused: ours have two of 60 bytes.
constexpr size_t MAX_NAMES_BYTES = 4096;

// The flags of a report, shared with tls-report.ts.
constexpr uint32_t FLAG_PEER = 1;           // the peer showed a certificate that was verified
constexpr uint32_t FLAG_AUTHORITY = 2;      // … which is a CA's
constexpr uint32_t FLAG_NO_SIGNATURE = 4;   // … whose key usage does not allow signatures
constexpr uint32_t FLAG_NAMES_TOO_LONG = 8;

const char TRANSPORT_HEADER_ALPN[] = "transport.l5d.io/v1";

class ReportWriter {
 public:
  explicit ReportWriter(uint8_t* out) : out_(out) {}
  size_t size() const { return used_; }
  void byte(uint8_t value) { out_[used_++] = value; }
  void number(uint32_t value) {
    std::memcpy(out_ + used_, &value, sizeof value);
    used_ += sizeof value;
  }
  void text(const void* bytes, size_t length) {
    const auto kept = uint16_t(std::min(length, size_t(512)));
    byte(uint8_t(kept));
    byte(uint8_t(kept >> 8));
    if (kept > 0) std::memcpy(out_ + used_, bytes, kept);
    used_ += kept;
  }
  void text(const char* text) { this->text(text, text == nullptr ? 0 : std::strlen(text)); }
  void setNumber(size_t at, uint32_t value) { std::memcpy(out_ + at, &value, sizeof value); }

 private:
  uint8_t* out_;
  size_t used_ = 0;
};

std::string opensslError() {
  char text[256];
  const unsigned long code = ERR_peek_last_error();
  ERR_error_string_n(code, text, sizeof text);
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : text;
}

// Seconds since 1970, kept within 32 unsigned bits (2106).
uint32_t secondsOf(const ASN1_TIME* time) {
  tm parts = {};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return uint32_t(std::clamp<int64_t>(int64_t(timegm(&parts)), 0, UINT32_MAX));
}

struct BioDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using BioPointer = std::unique_ptr<BIO, BioDeleter>;

BioPointer textBio(const std::string& text) { return BioPointer(BIO_new_mem_buf(text.data(), int(text.size()))); }

// Whether a text that gave no further certificate was at its end: half a certificate is an error, not an end.
bool atEndOfPem() { return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; }

// Keys are never encrypted here; without this OpenSSL asks the terminal.
int noPassphrase(char*, int, int, void*) { return 0; }

bool useCertificates(SSL_CTX* context, const std::string& text) {
  const BioPointer bio = textBio(text);
  X509* leaf = PEM_read_bio_X509(bio.get(), nullptr, noPassphrase, nullptr);
  if (leaf == nullptr) return false;
  bool good = SSL_CTX_use_certificate(context, leaf) == 1;
  X509_free(leaf);
  while (good) {
    X509* next = PEM_read_bio_X509(bio.get(), nullptr, noPassphrase, nullptr);
    if (next == nullptr) return atEndOfPem();
    good = SSL_CTX_add0_chain_cert(context, next) == 1;
    if (!good) X509_free(next);
  }
  return good;
}

bool useKey(SSL_CTX* context, const std::string& text) {
  const BioPointer bio = textBio(text);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, noPassphrase, nullptr);
  if (key == nullptr) return false;
  const bool good = SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
  EVP_PKEY_free(key);
  return good;
}

bool trust(SSL_CTX* context, const std::string& text) {
  const BioPointer bio = textBio(text);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  // An intermediate given as anchor is one.
  if (X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1) return false;
  for (int count = 0;; count++) {
    X509* anchor = PEM_read_bio_X509(bio.get(), nullptr, noPassphrase, nullptr);
    if (anchor == nullptr) return count > 0 && atEndOfPem();
    const bool added = X509_STORE_add_cert(store, anchor) == 1;
    X509_free(anchor);
    if (!added) return false;
  }
}

int selectAlpn(SSL*, const unsigned char** out, unsigned char* outLength, const unsigned char* offered,
               unsigned int offeredLength, void*) {
  constexpr size_t wanted = sizeof TRANSPORT_HEADER_ALPN - 1;
  for (unsigned int at = 0; at < offeredLength; at += 1u + offered[at]) {
    if (offered[at] != wanted || at + 1 + wanted > offeredLength) continue;
    if (std::memcmp(offered + at + 1, TRANSPORT_HEADER_ALPN, wanted) != 0) continue;
    *out = offered + at + 1;
    *outLength = wanted;
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_NOACK;
}

// What DESIGN section 4 allows. Compression is off because OpenSSL would compress the certificate in every handshake,
// which costs more than the handshake; tickets, because every connection proves its identity anew.
bool configure(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // Or OpenSSL looks for our own issuers among the anchors, verifies that chain in every handshake, and sends the root too.
  SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_alpn_select_cb(context, selectAlpn, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(context, 0) == 1 &&
         SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
         SSL_CTX_set1_groups_list(context, "X25519MLKEM768:X25519:P-256") == 1 &&
         SSL_CTX_set1_sigalgs_list(context, "ECDSA+SHA256:ed25519") == 1;
}

bool applyParameters(SSL* ssl, const uint8_t* parameters, size_t room) {
  const auto lengthAt = [&](size_t at) { return size_t(parameters[at]) | size_t(parameters[at + 1]) << 8; };
  if (room < 4) return false;
  const size_t nameLength = lengthAt(0);
  if (room < 4 + nameLength) return false;
  const size_t alpnLength = lengthAt(2 + nameLength);
  if (room < 4 + nameLength + alpnLength) return false;
  const std::string name(reinterpret_cast<const char*>(parameters + 2), nameLength);
  if (!name.empty() && SSL_set_tlsext_host_name(ssl, name.c_str()) != 1) return false;
  return alpnLength == 0 || SSL_set_alpn_protos(ssl, parameters + 4 + nameLength, unsigned(alpnLength)) == 0;
}

void writeNames(ReportWriter& writer, const GENERAL_NAMES* names, uint32_t& flags) {
  size_t bytes = 0;
  const size_t countAt = writer.size();
  writer.number(0);
  uint32_t count = 0;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    const bool text = name->type == GEN_DNS || name->type == GEN_URI;
    const auto length = text ? size_t(ASN1_STRING_length(name->d.ia5)) : 0;
    bytes += length + 3;
    if (length > 512 || bytes > MAX_NAMES_BYTES) {
      flags |= FLAG_NAMES_TOO_LONG;
      break;
    }
    writer.byte(uint8_t(name->type));
    writer.text(text ? ASN1_STRING_get0_data(name->d.ia5) : nullptr, length);
    count++;
  }
  writer.setNumber(countAt, count);
}

}  // namespace

SSL_CTX* makeTlsContext(const std::string& certificate, const std::string& key, const std::string& anchors,
                        std::string& error) {
  ERR_clear_error();
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  const char* what = nullptr;
  if (context == nullptr || !configure(context)) {
    what = "TLS 1.3 cannot be set up";
  } else if (!useCertificates(context, certificate)) {
    what = "the certificate cannot be used";
  } else if (!useKey(context, key)) {
    what = "the key cannot be used";
  } else if (!trust(context, anchors)) {
    what = "the trust anchors cannot be used";
  }
  if (what != nullptr) {
    error = std::string(what) + ": " + opensslError();
    SSL_CTX_free(context);
    context = nullptr;
  } else {
    SSL_CTX_set_keylog_callback(context, TlsHandshake::onSecret);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, TlsHandshake::onVerify);
  }
  ERR_clear_error();
  return context;
}

std::unique_ptr<TlsHandshake> TlsHandshake::make(SSL_CTX* context, bool server, const uint8_t* parameters, size_t room) {
  ERR_clear_error();
  std::unique_ptr<TlsHandshake> handshake(new TlsHandshake());
  handshake->server_ = server;
  SSL* ssl = SSL_new(context);
  if (ssl == nullptr) return nullptr;
  handshake->ssl_ = ssl;
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  if (in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    return nullptr;
  }
  SSL_set_bio(ssl, in, out);
  SSL_set_app_data(ssl, handshake.get());
  if (server) {
    SSL_set_accept_state(ssl);
    return handshake;
  }
  SSL_set_connect_state(ssl);
  return applyParameters(ssl, parameters, room) ? std::move(handshake) : nullptr;
}

TlsHandshake::~TlsHandshake() {
  SSL_free(ssl_);
  OPENSSL_cleanse(secrets_.client, sizeof secrets_.client);
  OPENSSL_cleanse(secrets_.server, sizeof secrets_.server);
}

// OpenSSL hands out the traffic secrets in the format of key log files and in no other way.
void TlsHandshake::onSecret(const SSL* ssl, const char* line) {
  auto* handshake = static_cast<TlsHandshake*>(SSL_get_app_data(ssl));
  const auto is = [&](const char* label) { return std::strncmp(line, label, std::strlen(label)) == 0; };
  TlsSecrets& secrets = handshake->secrets_;
  uint8_t* into;
  size_t* length;
  if (is("CLIENT_TRAFFIC_SECRET_0 ")) {
    into = secrets.client;
    length = &secrets.clientLength;
  } else if (is("SERVER_TRAFFIC_SECRET_0 ")) {
    into = secrets.server;
    length = &secrets.serverLength;
  } else {
    return;
  }
  const char* hex = std::strrchr(line, ' ') + 1;
  OPENSSL_hexstr2buf_ex(into, EVP_MAX_MD_SIZE, length, hex, '\0');
}

int TlsHandshake::onVerify(int good, X509_STORE_CTX* store) {
  if (good) return 1;
  const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* handshake = static_cast<TlsHandshake*>(SSL_get_app_data(ssl));
  const int error = X509_STORE_CTX_get_error(store);
  const X509* certificate = X509_STORE_CTX_get_current_cert(store);
  const uint32_t notBefore = certificate == nullptr ? 0 : secondsOf(X509_get0_notBefore(certificate));
  const int64_t ahead = int64_t(notBefore) - int64_t(std::time(nullptr));
  if (error == X509_V_ERR_CERT_NOT_YET_VALID && ahead <= CLOCK_TOLERANCE_S) {
    handshake->skewSeconds_ = std::max(handshake->skewSeconds_, int32_t(ahead));
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  handshake->verifyError_ = error;
  handshake->failedNotBefore_ = notBefore;
  handshake->failedNotAfter_ = certificate == nullptr ? 0 : secondsOf(X509_get0_notAfter(certificate));
  return 0;
}

TlsHandshake::Step TlsHandshake::advance(const uint8_t* bytes, size_t length) {
  // The thread's error queue is Node's too.
  ERR_clear_error();
  if (length > 0 && BIO_write(SSL_get_rbio(ssl_), bytes, int(length)) != int(length)) {
    problem_ = "out of memory";
    return Step::failed;
  }
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) return Step::done;
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ) return Step::more;
  const unsigned long code = ERR_peek_error();
  problem_ = ERR_reason_error_string(code);
  if (problem_ == nullptr) problem_ = "the handshake failed";
  ERR_clear_error();
  return Step::failed;
}

size_t TlsHandshake::output(const uint8_t** bytes) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(SSL_get_wbio(ssl_), &data);
  *bytes = reinterpret_cast<const uint8_t*>(data);
  return length > 0 ? size_t(length) : 0;
}

void TlsHandshake::clearOutput() { BIO_reset(SSL_get_wbio(ssl_)); }

size_t TlsHandshake::leftover(const uint8_t** bytes) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(SSL_get_rbio(ssl_), &data);
  *bytes = reinterpret_cast<const uint8_t*>(data);
  return length > 0 ? size_t(length) : 0;
}

std::unique_ptr<TlsRecords> TlsHandshake::records() {
  const SSL_CIPHER* agreed = SSL_get_current_cipher(ssl_);
  if (agreed == nullptr) return nullptr;
  secrets_.digest = SSL_CIPHER_get_handshake_digest(agreed);
  secrets_.cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(agreed));
  if (secrets_.digest == nullptr || secrets_.cipher == nullptr) return nullptr;
  const auto length = size_t(EVP_MD_get_size(secrets_.digest));
  if (secrets_.clientLength != length || secrets_.serverLength != length) return nullptr;
  return TlsRecords::make(secrets_, server_);
}

size_t TlsHandshake::report(uint8_t* out, uint32_t micros) const {
  ReportWriter writer(out);
  // Of a handshake that failed only the reason is asked for: SSL_get0_group_name() crashes where there is no session yet.
  const bool finished = SSL_is_init_finished(ssl_) == 1;
  X509* peer = finished ? SSL_get0_peer_certificate(ssl_) : nullptr;
  uint32_t flags = 0;
  if (peer != nullptr) {
    flags |= FLAG_PEER;
    if ((X509_get_extension_flags(peer) & EXFLAG_CA) != 0) flags |= FLAG_AUTHORITY;
    if ((X509_get_key_usage(peer) & KU_DIGITAL_SIGNATURE) == 0) flags |= FLAG_NO_SIGNATURE;
  }
  writer.number(micros);
  const size_t flagsAt = writer.size();
  writer.number(0);
  writer.number(uint32_t(verifyError_));
  writer.number(uint32_t(skewSeconds_));
  writer.number(peer != nullptr ? secondsOf(X509_get0_notBefore(peer)) : failedNotBefore_);
  writer.number(peer != nullptr ? secondsOf(X509_get0_notAfter(peer)) : failedNotAfter_);
  const uint8_t* alpn = nullptr;
  unsigned int alpnLength = 0;
  if (finished) SSL_get0_alpn_selected(ssl_, &alpn, &alpnLength);
  writer.text(alpn, alpnLength);
  writer.text(finished ? SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name) : nullptr);
  writer.text(finished ? SSL_get0_group_name(ssl_) : nullptr);
  writer.text(finished ? SSL_CIPHER_get_name(SSL_get_current_cipher(ssl_)) : nullptr);
  writer.text(verifyError_ != 0 ? X509_verify_cert_error_string(verifyError_) : problem_);
  auto* names = peer == nullptr
                    ? nullptr
                    : static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(peer, NID_subject_alt_name, nullptr, nullptr));
  writeNames(writer, names, flags);
  GENERAL_NAMES_free(names);
  writer.setNumber(flagsAt, flags);
  ERR_clear_error();
  return writer.size();
}

}  // namespace ferrule
