// Milliseconds of processor time this process has used: on a machine with other work, the clock on the wall says little.
#include <stdint.h>
#ifdef __wasm__
#include <wasi/api.h>
static double cpu_ms(void) {
  __wasi_timestamp_t now = 0;
  (void)!__wasi_clock_time_get(2, 1, &now); // 2: the processor time of the process
  return (double)now / 1e6;
}
#else
#include <time.h>
static double cpu_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}
#endif
