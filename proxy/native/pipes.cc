#include "pipes.h"

#include <fcntl.h>
#include <unistd.h>

namespace ferrule {

namespace {

// The pipe is what one turn of a bulky connection moves: 1 MB halved the CPU per byte against the default of 64 KB, and
// is the largest an unprivileged user gets (fs.pipe-max-size).
constexpr int PIPE_BYTES = 1 << 20;

// Per engine. Users without CAP_SYS_RESOURCE get fs.pipe-user-pages-soft = 64 MB for all their pipes: half of it leaves
// room for a second worker or proxy of the same user; beyond it relays copy.
constexpr size_t POOL_LIMIT = 32;

// Kept for the next bulky connection instead of being closed.
constexpr size_t IDLE_LIMIT = 4;

void closePipe(Pipe* pipe) {
  close(pipe->readEnd);
  close(pipe->writeEnd);
  delete pipe;
}

}  // namespace

Pipe* PipePool::acquire() {
  if (!idle_.empty()) {
    Pipe* pipe = idle_.back();
    idle_.pop_back();
    return pipe;
  }
  if (open_ >= POOL_LIMIT) return nullptr;
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return nullptr;
  Pipe* pipe = new Pipe{ends[0], ends[1], 0};
  // Over the user's allowance the kernel answers EPERM: a small pipe is slower than copying.
  if (fcntl(pipe->writeEnd, F_SETPIPE_SZ, PIPE_BYTES) < PIPE_BYTES) {
    closePipe(pipe);
    return nullptr;
  }
  open_++;
  return pipe;
}

void PipePool::release(Pipe* pipe) {
  if (pipe->held == 0 && idle_.size() < IDLE_LIMIT) {
    idle_.push_back(pipe);
    return;
  }
  closePipe(pipe);
  open_--;
}

void PipePool::clear() {
  for (Pipe* pipe : idle_) closePipe(pipe);
  open_ -= idle_.size();
  idle_.clear();
}

}  // namespace ferrule
