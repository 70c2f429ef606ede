// Pipes for splice(2): a small pool, because a pipe of 1 MB is two descriptors and unprivileged users get only 64 MB.
#pragma once
#include <cstddef>
#include <vector>

namespace ferrule {

struct Pipe {
  int readEnd = -1;
  int writeEnd = -1;
  size_t held = 0;  // bytes inside
};

class PipePool {
 public:
  ~PipePool() { clear(); }

  // An empty pipe of PIPE_BYTES; nullptr when none can be had, and the caller copies instead.
  Pipe* acquire();
  // Takes a pipe back; one that still holds bytes is destroyed with them.
  void release(Pipe* pipe);
  void clear();
  // Pipes in use or kept.
  size_t count() const { return open_; }

 private:
  std::vector<Pipe*> idle_;
  size_t open_ = 0;
};

}  // namespace ferrule
