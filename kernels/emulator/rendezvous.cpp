#include "rendezvous.hpp"

#include <algorithm>
#include <cstring>

namespace emulator {

// The meeting for which `same` answers true; a new one if there is none.
template <class Same>
static Meeting& find_or_open(const char* what, const Same& same, Place place) {
  for (Meeting& meeting : block.meetings) {
    if (same(meeting)) return meeting;
  }
  block.meetings.push_back({what, place, {}, {}, new_token()});
  return block.meetings.back();
}

static void conclude(Meeting& meeting, Combine combine) {
  const Meeting all = std::move(meeting);
  block.meetings.erase(block.meetings.begin() + (&meeting - block.meetings.data()));
  if (combine) combine(all.threads, all.arguments);
  Thread* const me = block.running;
  for (Thread* thread : all.threads) {
    if (thread != me) wake(*thread, all.token);
  }
  // The last to come goes on by itself in one order only.
  if (block.schedule.order == Order::forward) return;
  wake(*me, all.token);
  wait_at(all.what, all.place);
}

// This thread waits until `expected` threads have come to the meeting that `same` tells; `argument` is what it brings.
template <class Same>
static void meet(const char* what, std::size_t expected, const Same& same, void* argument, Combine combine,
                 Place place) {
  Meeting* meeting;
  void* token;
  {
    const Unwatched emulator;
    meeting = &find_or_open(what, same, place);
    token = meeting->token;
  }
  release(token);
  {
    const Unwatched emulator;
    meeting->threads.push_back(block.running);
    meeting->arguments.push_back(argument);
    if (meeting->threads.size() == expected) {
      conclude(*meeting, combine);
    } else {
      wait_at(what, place);
    }
  }
  acquire(token);
}

// --- Barriers ---------------------------------------------------------------------------------------

const char* const kBlockBarrier = "__syncthreads";

void block_barrier(const char* what, void* argument, Combine combine, Place place) {
  const auto same = [](const Meeting& meeting) { return !std::strncmp(meeting.what, kBlockBarrier, 13); };
  for (const Meeting& meeting : block.meetings) {
    if (same(meeting) && (meeting.place.line != place.line || std::strcmp(meeting.what, what))) {
      fail("divergent barrier: " + std::string(what) + " meets " + meeting.what + " of line " +
               std::to_string(meeting.place.line),
           place);
    }
  }
  if (block.alive != block.threads.size()) {
    fail(std::string(what) + ": some threads of the block have ended before it", place);
  }
  meet(what, block.threads.size(), same, argument, combine, place);
}

const char* const kNamedBarriers[16] = {
    "barrier 0", "barrier 1", "barrier 2",  "barrier 3",  "barrier 4",  "barrier 5",  "barrier 6",  "barrier 7",
    "barrier 8", "barrier 9", "barrier 10", "barrier 11", "barrier 12", "barrier 13", "barrier 14", "barrier 15"};

void named_barrier(int id, int threads, Place place) {
  if (id < 1 || id > 15 || threads % 32 || threads <= 0) {
    fail("barrier_sync(" + std::to_string(id) + ", " + std::to_string(threads) +
             "): a barrier is 1 to 15, for whole warps",
         place);
  }
  const char* const name = kNamedBarriers[id];
  meet(name, threads, [name](const Meeting& meeting) { return meeting.what == name; }, nullptr, nullptr, place);
}

struct Brought {  // by one lane
  void* argument;
  unsigned mask;
  void (*combine)(const Lanes& lanes);
};

static void combine_lanes(const std::vector<Thread*>& threads, const std::vector<void*>& arguments) {
  const Brought& first = *static_cast<const Brought*>(arguments[0]);
  if (!first.combine) return;
  Lanes lanes{{}, first.mask};
  for (std::size_t i = 0; i < threads.size(); ++i) {
    lanes.argument[threads[i]->lane()] = static_cast<const Brought*>(arguments[i])->argument;
  }
  first.combine(lanes);
}

void warp_operation(const char* what, unsigned mask, void* argument, void (*combine)(const Lanes& lanes), Place place) {
  const Thread& me = *block.running;
  if (!(mask >> me.lane() & 1)) fail(std::string(what) + ": this lane is not in its own mask", place);
  if (std::size_t(me.warp()) * 32 + 32 > block.threads.size()) {
    const unsigned lanes = block.threads.size() % 32;
    if (lanes && mask >> lanes) fail(std::string(what) + ": its mask names lanes that the block does not have", place);
  }
  Brought brought{argument, mask, combine};
  const unsigned warp = me.warp();
  const auto same = [=](const Meeting& meeting) {
    return !meeting.threads.empty() && meeting.threads[0]->warp() == warp && !std::strcmp(meeting.what, what) &&
           static_cast<const Brought*>(meeting.arguments[0])->mask == mask;
  };
  meet(what, __builtin_popcount(mask), same, &brought, combine_lanes, place);
}

// --- A warpgroup ---------------------------------------------------------------------------

void meet_warpgroup(const char* what, void* argument, Combine combine, Place place) {
  const unsigned group = block.running->index / 128;
  if ((group + 1) * 128 > block.threads.size()) fail(std::string(what) + ": the warpgroup has fewer than 128 threads");
  const auto same = [=](const Meeting& meeting) {
    return meeting.what == what && !meeting.threads.empty() && meeting.threads[0]->index / 128 == group;
  };
  meet(what, 128, same, argument, combine, place);
}

// --- An address -------------------------------------------------------------------------------------

void wait_for_change(const void* address, const char* what, Place place) {
  {
    const Unwatched emulator;
    block.watchers.push_back({address, block.running});
    wait_at(what, place);
  }
  acquire(block.running->released);
}

void wake_watchers(const void* address, void* token) {
  auto& watchers = block.watchers;
  for (const Watcher& watcher : watchers) {
    if (watcher.address == address) wake(*watcher.thread, token);
  }
  const auto gone = [=](const Watcher& watcher) { return watcher.address == address; };
  watchers.erase(std::remove_if(watchers.begin(), watchers.end(), gone), watchers.end());
}

void notify(const void* address) {
  void* const token = new_token();
  release(token);
  const Unwatched emulator;
  wake_watchers(address, token);
}

}  // namespace emulator
