// One HTTP/2 connection without TLS, either end of it, as cheap as it can be made: frames, flow control, nothing of HPACK but
// constant blocks that use no dynamic table. For h2-stream.cc.

#pragma once

#include <endian.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>

[[noreturn]] inline void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

[[noreturn]] inline void failErrno(const char* call) { fail(std::string(call) + ": " + std::strerror(errno)); }

// RFC 9113 section 6.
enum FrameType : uint8_t { kData, kHeaders, kPriority, kReset, kSettings, kPush, kPing, kGoAway, kWindowUpdate, kContinuation };
inline constexpr uint8_t kEndStream = 1;  // DATA, HEADERS
inline constexpr uint8_t kAck = 1;        // SETTINGS, PING
inline constexpr uint8_t kEndHeaders = 4;
inline constexpr uint8_t kPadded = 8;
inline constexpr uint16_t kInitialWindowSize = 4;
inline constexpr uint16_t kMaxFrameSize = 5;

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr size_t kFrameHead = 9;
inline constexpr int64_t kDefaultWindow = 65'535;
// What we let the other side send ahead: never what limits it.
inline constexpr uint32_t kOurWindow = 16 * 1024 * 1024;
// Most that is queued for a socket before DATA waits: a few times what the kernel takes at once.
inline constexpr size_t kQueued = 512 * 1024;
// Most that is read at a time.
inline constexpr size_t kRead = 256 * 1024;

/** A field that no table keeps (RFC 7541 section 6.2.2) with a name and a value of less than 127 bytes. */
inline std::string literal(std::string_view name, std::string_view value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + std::string(name) + static_cast<char>(value.size()) +
         std::string(value);
}

struct Stream {
  int64_t window = 0;       // what the other side still takes
  int64_t unreported = 0;   // taken from it since our last WINDOW_UPDATE
  void* user = nullptr;     // the program's
};

class Connection {
 public:
  Connection(int fd, bool isClient) : fd_(fd) {
    if (isClient) out_ += kPreface;
    else awaited_ = kPreface.size();
    std::string settings;
    putSetting(settings, kInitialWindowSize, kOurWindow);
    frame(kSettings, 0, 0, settings);
    windowUpdate(0, kOurWindow);
  }
  virtual ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;

  int fd() const { return fd_; }
  std::unordered_map<uint32_t, Stream>& streams() { return streams_; }

  /** Reads what has come. @param closing whether the end is near, which no further event tells @returns false at the end */
  bool receive(bool closing) {
    static char buffer[kRead];
    for (;;) {
      // What was not a whole frame comes first; it is no longer than one.
      const size_t kept = in_.copy(buffer, in_.size());
      const ssize_t got = recv(fd_, buffer + kept, sizeof buffer - kept, 0);
      if (got < 0 && errno == EAGAIN) return true;
      if (got <= 0) return false;
      const std::string_view bytes(buffer, kept + static_cast<size_t>(got));
      in_.assign(bytes.substr(take(bytes)));
      if (bytes.size() < sizeof buffer && !closing) return true;
    }
  }

  /** Sends what is queued, as far as the socket takes it. @returns false when it is broken */
  bool flush() {
    while (hasOutput()) {
      const ssize_t sent = send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) return true;
      if (sent < 0) return false;
      sent_ += static_cast<size_t>(sent);
      // Not at once: what is left would be moved for every call that sends a part of it.
      if (!hasOutput() || sent_ > kQueued) {
        out_.erase(0, sent_);
        sent_ = 0;
      }
    }
    return true;
  }

  /** As `flush`, and as much of what waits for room in the queue as the socket takes. */
  bool flushAll() {
    while (flush()) {
      if (hasOutput()) return true;
      onRoom();
      if (!hasOutput()) return true;
    }
    return false;
  }

  void headers(uint32_t id, std::string_view block, bool end) {
    frame(kHeaders, static_cast<uint8_t>(kEndHeaders | (end ? kEndStream : 0)), id, block);
  }

  Stream& open(uint32_t id) {
    Stream& stream = streams_[id];
    stream.window = initialWindow_;
    return stream;
  }

  /** @returns how much of it both windows, the size of frames and the queue took; the end goes with the last byte only */
  size_t data(uint32_t id, Stream& stream, std::string_view bytes, bool end) {
    size_t done = 0;
    if (bytes.empty() && !end) return done;
    do {
      const int64_t room = std::min({window_, stream.window, static_cast<int64_t>(maxFrame_)});
      const size_t size = std::min(bytes.size() - done, static_cast<size_t>(std::max<int64_t>(room, 0)));
      if ((size == 0 && done < bytes.size()) || out_.size() - sent_ > kQueued) break;
      const bool isLast = done + size == bytes.size();
      frame(kData, end && isLast ? kEndStream : 0, id, bytes.substr(done, size));
      window_ -= static_cast<int64_t>(size);
      stream.window -= static_cast<int64_t>(size);
      done += size;
    } while (done < bytes.size());
    return done;
  }

 protected:
  virtual void onHeaders(uint32_t id, bool end) = 0;
  virtual void onData(uint32_t id, Stream& stream, std::string_view bytes, bool end) = 0;
  /** More DATA may be sent, on any stream. */
  virtual void onRoom() {}
  /** The other side gave the connection up, or a stream, unless `onReset` says otherwise. */
  virtual void onBroken(const std::string& how) = 0;
  virtual void onReset(uint32_t, uint32_t code) { onBroken("RST_STREAM with code " + std::to_string(code)); }

 private:
  bool hasOutput() const { return sent_ < out_.size(); }

  void frame(FrameType type, uint8_t flags, uint32_t id, std::string_view payload) {
    const uint32_t length = static_cast<uint32_t>(payload.size());
    const uint8_t head[kFrameHead] = {static_cast<uint8_t>(length >> 16), static_cast<uint8_t>(length >> 8),
                                      static_cast<uint8_t>(length),       type,
                                      flags,                              static_cast<uint8_t>(id >> 24),
                                      static_cast<uint8_t>(id >> 16),     static_cast<uint8_t>(id >> 8),
                                      static_cast<uint8_t>(id)};
    out_.append(reinterpret_cast<const char*>(head), sizeof head).append(payload);
  }

  static void putSetting(std::string& into, uint16_t id, uint32_t value) {
    const uint16_t name = htobe16(id);
    const uint32_t number = htobe32(value);
    into.append(reinterpret_cast<const char*>(&name), sizeof name);
    into.append(reinterpret_cast<const char*>(&number), sizeof number);
  }

  static uint32_t number(std::string_view bytes, size_t at, size_t size) {
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
    return value;
  }

  void windowUpdate(uint32_t id, uint32_t increment) {
    const uint32_t value = htobe32(increment);
    frame(kWindowUpdate, 0, id, std::string_view(reinterpret_cast<const char*>(&value), sizeof value));
  }

  /** @returns how many of the bytes were whole frames, which are handled */
  size_t take(std::string_view bytes) {
    size_t at = 0;
    if (awaited_ > 0) {
      if (bytes.size() < awaited_) return 0;
      if (bytes.substr(0, awaited_) != kPreface) fail("another preface than HTTP/2 has");
      at = awaited_;
      awaited_ = 0;
    }
    while (bytes.size() - at >= kFrameHead) {
      const size_t length = number(bytes, at, 3);
      if (length > kRead - kFrameHead) fail("a frame of " + std::to_string(length) + " bytes");
      if (bytes.size() - at < kFrameHead + length) break;
      const auto type = static_cast<FrameType>(bytes[at + 3]);
      handle(type, static_cast<uint8_t>(bytes[at + 4]), number(bytes, at + 5, 4), bytes.substr(at + kFrameHead, length));
      at += kFrameHead + length;
    }
    return at;
  }

  void handle(FrameType type, uint8_t flags, uint32_t id, std::string_view payload) {
    switch (type) {
      case kData:
        return handleData(flags, id, payload);
      case kHeaders:
        ending_ = (flags & kEndStream) != 0;
        if ((flags & kEndHeaders) != 0) onHeaders(id, ending_);
        return;
      case kContinuation:
        if ((flags & kEndHeaders) != 0) onHeaders(id, ending_);
        return;
      case kReset:
        return onReset(id, number(payload, 0, 4));
      case kGoAway:
        return onBroken("GOAWAY with code " + std::to_string(number(payload, 4, 4)));
      case kSettings:
        return handleSettings(flags, payload);
      case kPing:
        if ((flags & kAck) == 0) frame(kPing, kAck, 0, payload);
        return;
      case kWindowUpdate:
        return handleWindow(id, number(payload, 0, 4));
      default:
        return;
    }
  }

  void handleData(uint8_t flags, uint32_t id, std::string_view payload) {
    const auto found = streams_.find(id);
    if (found == streams_.end()) fail("DATA on a stream that is not open");
    credit(0, unreported_, payload.size());
    credit(id, found->second.unreported, payload.size());
    if ((flags & kPadded) != 0) payload = payload.substr(1, payload.size() - 1 - static_cast<uint8_t>(payload[0]));
    onData(id, found->second, payload, (flags & kEndStream) != 0);
  }

  /** Gives the other side its window back, at a quarter of it at once. */
  void credit(uint32_t id, int64_t& unreported, size_t taken) {
    unreported += static_cast<int64_t>(taken);
    if (unreported < kOurWindow / 4) return;
    windowUpdate(id, static_cast<uint32_t>(unreported));
    unreported = 0;
  }

  void handleSettings(uint8_t flags, std::string_view payload) {
    if ((flags & kAck) != 0) return;
    for (size_t at = 0; at + 6 <= payload.size(); at += 6) {
      const uint32_t value = number(payload, at + 2, 4);
      const uint32_t name = number(payload, at, 2);
      if (name == kMaxFrameSize) maxFrame_ = value;
      if (name != kInitialWindowSize) continue;
      for (auto& [id, stream] : streams_) stream.window += static_cast<int64_t>(value) - initialWindow_;
      initialWindow_ = value;
    }
    frame(kSettings, kAck, 0, "");
    onRoom();
  }

  void handleWindow(uint32_t id, uint32_t increment) {
    if (id == 0) {
      window_ += increment;
    } else if (const auto found = streams_.find(id); found != streams_.end()) {
      found->second.window += increment;
    }
    onRoom();
  }

  const int fd_;
  std::string in_;
  std::string out_;
  size_t sent_ = 0;  // of it
  size_t awaited_ = 0;
  bool ending_ = false;
  int64_t window_ = kDefaultWindow;
  int64_t initialWindow_ = kDefaultWindow;
  size_t maxFrame_ = 16'384;
  int64_t unreported_ = 0;
  std::unordered_map<uint32_t, Stream> streams_;
};
