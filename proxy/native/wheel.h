// Coarse timers: a hashed timing wheel (Varghese and Lauck 1987, scheme 6) of intrusive nodes. Arming and disarming are
// a few stores, so that a deadline per connection attempt costs nothing that shows.
#pragma once
#include <cstdint>

namespace ferrule {

// 16 ms: the shortest deadline is the 50 ms a client may be silent before a server may speak first, the others are seconds
// (connect) to minutes (idle). One turn of the wheel is 4 s, longer ones go round.
constexpr uint32_t TICK_MS = 16;
constexpr uint32_t WHEEL_SLOTS = 256;

struct TimerNode {
  TimerNode* previous = nullptr;
  TimerNode* next = nullptr;
  uint32_t expiryTick = 0;
  bool armed() const { return next != nullptr; }
};

class Wheel {
 public:
  Wheel() {
    for (auto& slot : slots_) slot.previous = slot.next = &slot;
  }

  uint32_t count() const { return count_; }
  uint32_t now() const { return now_; }

  // Fires with the first tick after `ms` milliseconds have passed, never earlier; the current tick began `elapsedMs` ago.
  // Re-arms an armed node.
  void arm(TimerNode& node, uint32_t ms, uint32_t elapsedMs) { armAt(node, now_ + (elapsedMs + ms) / TICK_MS + 1); }

  void armAt(TimerNode& node, uint32_t tick) {
    disarm(node);
    TimerNode& head = slots_[tick % WHEEL_SLOTS];
    node.expiryTick = tick;
    node.previous = head.previous;
    node.next = &head;
    head.previous->next = &node;
    head.previous = &node;
    count_++;
  }

  void disarm(TimerNode& node) {
    if (!node.armed()) return;
    node.previous->next = node.next;
    node.next->previous = node.previous;
    node.previous = node.next = nullptr;
    count_--;
  }

  // Moves time to `tick`, handing every due node, already disarmed, to `due`.
  template <typename Due>
  void advance(uint32_t tick, Due due) {
    // After a long sleep one pass over all slots finds everything that is due.
    const uint32_t steps = tick - now_ < WHEEL_SLOTS ? tick - now_ : WHEEL_SLOTS;
    const uint32_t first = tick - steps + 1;
    now_ = tick;
    for (uint32_t step = 0; step < steps && count_ > 0; step++) expire(slots_[(first + step) % WHEEL_SLOTS], due);
  }

  // Milliseconds the loop may sleep before a slot with nodes comes up, `elapsedMs` after the current tick began; -1
  // without timers.
  int sleepMs(uint32_t elapsedMs) const {
    if (count_ == 0) return -1;
    uint32_t ticks = 1;
    while (ticks < WHEEL_SLOTS && slots_[(now_ + ticks) % WHEEL_SLOTS].next == &slots_[(now_ + ticks) % WHEEL_SLOTS]) {
      ticks++;
    }
    return ticks * TICK_MS > elapsedMs ? int(ticks * TICK_MS - elapsedMs) : 0;
  }

 private:
  template <typename Due>
  void expire(TimerNode& head, Due due) {
    // Detach the list first: `due` may arm nodes into this very slot.
    TimerNode list;
    if (head.next == &head) return;
    list.next = head.next;
    list.previous = head.previous;
    list.next->previous = &list;
    list.previous->next = &list;
    head.next = head.previous = &head;
    while (list.next != &list) {
      TimerNode& node = *list.next;
      const uint32_t expiry = node.expiryTick;
      disarm(node);
      if (int32_t(expiry - now_) > 0) {
        armAt(node, expiry);
      } else {
        due(node);
      }
    }
  }

  TimerNode slots_[WHEEL_SLOTS];
  uint32_t now_ = 0;
  uint32_t count_ = 0;
};

}  // namespace ferrule
