// Where the threads of a parallel region run.
#pragma once
#include <vector>

namespace cvperf {

// Thread i of teams of processors.size() threads, started from the calling thread, runs on processors[i] only
// (numbers as the system counts them) until it is told otherwise. Does nothing except on Linux.
// Throws std::runtime_error if the system refuses.
void place_threads(const std::vector<std::vector<int>>& processors);

}  // namespace cvperf
