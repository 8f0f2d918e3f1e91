// Writes a file in blocks and reads it again; prints milliseconds of processor time for each: "write MS read MS".
//   file-io FILE MIB BLOCK_BYTES
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cpu-time.h"

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  size_t block = atol(argv[3]), blocks = ((size_t)atol(argv[2]) << 20) / block;
  char *buffer = malloc(block);
  memset(buffer, 'x', block);
  int fd = open(argv[1], O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (fd < 0) return 3;
  double begin = cpu_ms();
  for (size_t n = 0; n < blocks; n++)
    if (write(fd, buffer, block) != (ssize_t)block) return 4;
  double written = cpu_ms();
  size_t sum = 0;
  // The file is read four times, as reading is the quicker half.
  for (int round = 0; round < 4; round++) {
    lseek(fd, 0, SEEK_SET);
    for (size_t n = 0; n < blocks; n++) {
      ssize_t count = read(fd, buffer, block);
      if (count != (ssize_t)block) return 5;
      sum += buffer[n % block];
    }
  }
  double read_again = cpu_ms();
  if (sum != blocks * 4 * 'x') return 6;
  printf("write %.3f read %.3f\n", written - begin, (read_again - written) / 4);
  close(fd);
  return unlink(argv[1]) ? 7 : 0;
}
