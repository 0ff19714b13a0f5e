// Fork-join over plain threads. There is no pool: nothing spins between calls, and nothing hangs after a fork().
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

namespace lift {

// Call body(begin, end, worker) on the chunks [0, grain), [grain, 2 grain), ... of [0, n), each chunk once, on up to
// `threads` threads; worker < threads tells them apart. The first exception ends the work and is thrown from here.
//
// It returns when all chunks are done, not when all threads have ended: on a busy machine some get to run only after
// the others have taken every chunk, and waiting for them would cost time slices. They find nothing left and touch
// nothing but the state that they share.
template <class Body>
void parallel_for(int threads, int64_t n, int64_t grain, const Body& body) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;  // of what follows
    std::condition_variable all_done;
    std::exception_ptr failure;
  };
  const int64_t chunks = (n + grain - 1) / grain;
  if (chunks == 0) return;
  const auto state = std::make_shared<State>();
  const auto work = [state, chunks, n, grain, body = &body](int worker) {
    for (int64_t chunk; (chunk = state->next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
      try {
        if (!state->failed) (*body)(chunk * grain, std::min(n, (chunk + 1) * grain), worker);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(state->mutex);
        if (!state->failed.exchange(true)) state->failure = std::current_exception();
      }
      if (state->done.fetch_add(1) + 1 == chunks) {
        const std::lock_guard<std::mutex> lock(state->mutex);
        state->all_done.notify_one();
      }
    }
  };
  for (int worker = 1; worker < std::min<int64_t>(threads, chunks); ++worker) {
    try {
      std::thread(work, worker).detach();
    } catch (const std::exception&) {
      break;  // no thread or no memory for one to be had: those there are take all chunks
    }
  }
  work(0);
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == chunks; });
  if (state->failure) std::rethrow_exception(state->failure);
}

}  // namespace lift
