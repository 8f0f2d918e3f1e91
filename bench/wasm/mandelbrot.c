// Counts the points of a square grid that stay in the Mandelbrot set for 50 steps; the argument is its side.
#include <stdio.h>
#include <stdlib.h>
#include "cpu-time.h"

int main(int argc, char **argv) {
  double begin = cpu_ms();
  int side = argc > 1 ? atoi(argv[1]) : 400;
  long inside = 0;
  for (int row = 0; row < side; row++) {
    for (int column = 0; column < side; column++) {
      double cx = 3.0 * column / side - 2.0, cy = 2.0 * row / side - 1.0, x = 0, y = 0;
      int step = 0;
      while (step < 50 && x * x + y * y <= 4.0) {
        double next = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = next;
        step++;
      }
      inside += step == 50;
    }
  }
  printf("%ld\n", inside);
  fprintf(stderr, "%.1f\n", cpu_ms() - begin);
  return 0;
}
