#include "fiber.hpp"

#include <sys/mman.h>

#include <new>

namespace emulator {

char* map_memory(std::size_t bytes) {
  void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<char*>(p);
}

#if !EMULATOR_UCONTEXT
// Saves the registers that a call must preserve, and returns on the other stack.
__attribute__((naked, noinline)) static void swap_stacks(void** /*from: rdi*/, void* /*to: rsi*/) {
  asm volatile(
      "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
      "movq %rsp, (%rdi); movq %rsi, %rsp;"
      "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}
#endif

// ThreadSanitizer maps memory for every fiber, and a process has so many mappings only.
void leave_sanitizer([[maybe_unused]] Fiber& fiber) {
#if EMULATOR_TSAN
  if (!fiber.tsan) return;
  __tsan_destroy_fiber(fiber.tsan);
  fiber.tsan = nullptr;
  munmap(fiber.stack, kStackBytes);  // another fiber's accesses to it would look like races
  fiber.stack = nullptr;
#endif
}

void prepare(Fiber& fiber, void (*entry)()) {
  if (!fiber.stack) fiber.stack = map_memory(kStackBytes);
  fiber.ended = false;
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // the last thread on it did not return
#endif
#if EMULATOR_TSAN
  if (!fiber.tsan) fiber.tsan = __tsan_create_fiber(0);
#endif
#if EMULATOR_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  // As swap_stacks leaves it: six registers, the address to return to, and the caller's alignment.
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

// AddressSanitizer wants to know the stack of the first fiber when it is left for good.
struct MainStack {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
};
MainStack main_stack;

EMULATOR_RAW void switch_fiber(Fiber& from, Fiber& to) {
#if EMULATOR_TSAN
  __tsan_switch_to_fiber(to.tsan, 1);
#endif
#if EMULATOR_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(from.ended ? nullptr : &fake, to.stack ? to.stack : main_stack.bottom,
                                 to.stack ? kStackBytes : main_stack.bytes);
#endif
#if EMULATOR_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  swap_stacks(&from.stack_pointer, to.stack_pointer);
#endif
#if EMULATOR_ASAN
  MainStack left;
  __sanitizer_finish_switch_fiber(fake, &left.bottom, &left.bytes);
#endif
  asm volatile("" ::: "memory");
}

void entered() {
#if EMULATOR_ASAN
  MainStack left;
  __sanitizer_finish_switch_fiber(nullptr, &left.bottom, &left.bytes);
  if (!main_stack.bottom) main_stack = left;  // the first fiber ever is entered from there
#endif
}

}  // namespace emulator
