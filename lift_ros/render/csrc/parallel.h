// Fork-join over plain threads. There is no pool: nothing spins between calls, and nothing hangs after a fork().
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace lift {

// Call body(begin, end, worker) on the chunks [0, grain), [grain, 2 grain), ... of [0, n), each chunk once, on up to
// `threads` threads; worker < threads tells them apart. The first exception ends the work and is thrown from here.
template <class Body>
void parallel_for(int threads, int64_t n, int64_t grain, const Body& body) {
  const int64_t chunks = (n + grain - 1) / grain;
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](int worker) {
    try {
      for (int64_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;)
        body(chunk * grain, std::min(n, (chunk + 1) * grain), worker);
    } catch (...) {
      next = chunks;
      const std::lock_guard<std::mutex> lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> team;
  for (int worker = 1; worker < std::min<int64_t>(threads, chunks); ++worker) {
    try {
      team.emplace_back(work, worker);
    } catch (const std::system_error&) {
      break;  // no thread to be had: those there are take all chunks
    }
  }
  work(0);
  for (std::thread& thread : team) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace lift
