// A sun and four planets under gravity, as many steps of a hundredth of a year as the argument says; prints the energy.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cpu-time.h"

#define BODIES 5

static double at[BODIES][3], speed[BODIES][3];
static const double mass[BODIES] = {39.47, 0.0376, 0.0113, 0.0017, 0.0020};

static void step(double time) {
  for (int i = 0; i < BODIES; i++) {
    for (int j = i + 1; j < BODIES; j++) {
      double way[3], square = 0;
      for (int k = 0; k < 3; k++) way[k] = at[i][k] - at[j][k], square += way[k] * way[k];
      double pull = time / (square * sqrt(square));
      for (int k = 0; k < 3; k++) {
        speed[i][k] -= way[k] * mass[j] * pull;
        speed[j][k] += way[k] * mass[i] * pull;
      }
    }
  }
  for (int i = 0; i < BODIES; i++)
    for (int k = 0; k < 3; k++) at[i][k] += time * speed[i][k];
}

static double energy(void) {
  double sum = 0;
  for (int i = 0; i < BODIES; i++) {
    for (int k = 0; k < 3; k++) sum += 0.5 * mass[i] * speed[i][k] * speed[i][k];
    for (int j = i + 1; j < BODIES; j++) {
      double square = 0;
      for (int k = 0; k < 3; k++) square += (at[i][k] - at[j][k]) * (at[i][k] - at[j][k]);
      sum -= mass[i] * mass[j] / sqrt(square);
    }
  }
  return sum;
}

int main(int argc, char **argv) {
  double begin = cpu_ms();
  long steps = argc > 1 ? atol(argv[1]) : 1000;
  for (int i = 1; i < BODIES; i++) {
    double far = 5.2 * i;
    at[i][0] = far, at[i][2] = 0.1 * i;
    speed[i][1] = sqrt(mass[0] / far);
  }
  for (long i = 0; i < steps; i++) step(0.01);
  printf("%.9f\n", energy());
  fprintf(stderr, "%.1f\n", cpu_ms() - begin);
  return 0;
}
