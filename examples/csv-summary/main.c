/* Sums a column of a CSV file per key: `csv-summary INPUT OUTPUT KEY_COLUMN VALUE_COLUMN` (columns from 1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 4096
#define KEYS_MAX 1024

struct total {
  char key[64];
  double sum;
  long rows;
};

static struct total totals[KEYS_MAX];
static int used;

static const char *column(char *line, int wanted) {
  for (char *field = strtok(line, ","); field != NULL; field = strtok(NULL, ","))
    if (--wanted == 0) return field;
  return NULL;
}

static struct total *find(const char *key) {
  for (int i = 0; i < used; i++)
    if (strcmp(totals[i].key, key) == 0) return &totals[i];
  if (used == KEYS_MAX) return NULL;
  snprintf(totals[used].key, sizeof totals[used].key, "%s", key);
  return &totals[used++];
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: csv-summary INPUT OUTPUT KEY_COLUMN VALUE_COLUMN\n");
    return 2;
  }
  FILE *in = fopen(argv[1], "r");
  if (in == NULL) {
    perror(argv[1]);
    return 1;
  }
  int key_column = atoi(argv[3]), value_column = atoi(argv[4]);
  char line[LINE_MAX_BYTES], copy[LINE_MAX_BYTES];
  long rows = 0;
  for (int first = 1; fgets(line, sizeof line, in) != NULL; first = 0) {
    line[strcspn(line, "\r\n")] = '\0';
    if (first || line[0] == '\0') continue;
    strcpy(copy, line);
    const char *key = column(copy, key_column);
    char name[64];
    snprintf(name, sizeof name, "%s", key == NULL ? "" : key);
    strcpy(copy, line);
    const char *value = column(copy, value_column);
    struct total *total = find(name);
    if (total == NULL || value == NULL) {
      fprintf(stderr, "row %ld: %s\n", rows + 1, total == NULL ? "too many keys" : "no such column");
      return 1;
    }
    total->sum += atof(value);
    total->rows += 1;
    rows += 1;
  }
  fclose(in);

  FILE *out = fopen(argv[2], "w");
  if (out == NULL) {
    perror(argv[2]);
    return 1;
  }
  fprintf(out, "key,rows,sum\n");
  for (int i = 0; i < used; i++) fprintf(out, "%s,%ld,%.2f\n", totals[i].key, totals[i].rows, totals[i].sum);
  if (fclose(out) != 0) {
    perror(argv[2]);
    return 1;
  }
  printf("%ld rows, %d keys\n", rows, used);
  return 0;
}
