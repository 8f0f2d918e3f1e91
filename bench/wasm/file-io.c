// Writes a file in blocks and reads it again; prints milliseconds of processor time for each: "write MS read MS".
//   file-io FILE MIB BLOCK_BYTES
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cpu-time.h"

#define ROUNDS 12

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  size_t block = atol(argv[3]), blocks = ((size_t)atol(argv[2]) << 20) / block;
  char *buffer = malloc(block);
  memset(buffer, 'x', block);
  int fd = open(argv[1], O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (fd < 0) return 3;
  // Several rounds over the same file: what a program does all the time counts, not its first milliseconds.
  double begin = cpu_ms();
  for (int round = 0; round < ROUNDS; round++) {
    lseek(fd, 0, SEEK_SET);
    for (size_t n = 0; n < blocks; n++)
      if (write(fd, buffer, block) != (ssize_t)block) return 4;
  }
  double written = cpu_ms();
  size_t sum = 0;
  for (int round = 0; round < ROUNDS; round++) {
    lseek(fd, 0, SEEK_SET);
    for (size_t n = 0; n < blocks; n++) {
      ssize_t count = read(fd, buffer, block);
      if (count != (ssize_t)block) return 5;
      sum += buffer[n % block];
    }
  }
  double read_again = cpu_ms();
  if (sum != blocks * ROUNDS * 'x') return 6;
  printf("write %.3f read %.3f\n", (written - begin) / ROUNDS, (read_again - written) / ROUNDS);
  close(fd);
  return unlink(argv[1]) ? 7 : 0;
}
