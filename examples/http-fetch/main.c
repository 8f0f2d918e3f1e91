// Asks for each URL of its arguments, writes what comes to standard output, and says on standard error how it went. Ends with 1
// when a request failed or was answered with 400 or more.
//
//   http-fetch [-X METHOD] [-H 'Name: value'] [-d DATA] URL...
#include "weir_http.h"

#include <stdio.h>
#include <string.h>

static char headers[80 * 1024];
static char buffer[64 * 1024];

static const char *text_of(int32_t result) {
  switch (result) {
    case WEIR_HTTP_DENIED: return "the job has no network: run it with --network http --domain HOST";
    case WEIR_HTTP_UNAVAILABLE: return "the gateway is gone";
    case WEIR_HTTP_INVALID: return "the method, URL or a header is malformed";
    case WEIR_HTTP_TOO_LARGE: return "the request is too large";
    case WEIR_HTTP_CUT: return "the connection ended early";
    default: return "it failed";
  }
}

// One request; 0 when it was answered with less than 400.
static int fetch(const char *method, const char *url, const char *extra, const char *body) {
  weir_http_handle request = 0;
  uint32_t status = 0;
  size_t stored = 0;
  size_t body_len = body == NULL ? 0 : strlen(body);
  int32_t result = weir_http_request_open(method, strlen(method), url, strlen(url), extra, strlen(extra),
                                          (int64_t)body_len, &request);
  if (result != WEIR_HTTP_OK) {
    fprintf(stderr, "%s: %s\n", url, text_of(result));
    return 1;
  }
  // Nobody may read the body to its end and answer all the same: what counts is the answer.
  if (body_len > 0 && weir_http_request_write(request, body, body_len) == WEIR_HTTP_OK) weir_http_request_finish(request);
  result = weir_http_response_head(request, headers, sizeof headers, &status, &stored);
  while (result == WEIR_HTTP_OK) {
    result = weir_http_response_read(request, buffer, sizeof buffer, &stored);
    if (result != WEIR_HTTP_OK || stored == 0) break;
    fwrite(buffer, 1, stored, stdout);
  }
  weir_http_close(request);
  if (result == WEIR_HTTP_OK) fprintf(stderr, "%s: %u\n", url, status);
  else fprintf(stderr, "%s: %s\n", url, text_of(result));
  return result != WEIR_HTTP_OK || status >= 400;
}

int main(int argc, char **argv) {
  const char *method = NULL, *body = NULL;
  static char extra[16 * 1024];
  int failed = 0, urls = 0;
  for (int i = 1; i < argc; i++) {
    int has_value = i + 1 < argc;
    if (strcmp(argv[i], "-X") == 0 && has_value) method = argv[++i];
    else if (strcmp(argv[i], "-d") == 0 && has_value) body = argv[++i];
    else if (strcmp(argv[i], "-H") == 0 && has_value && strlen(extra) + strlen(argv[i + 1]) + 2 < sizeof extra) {
      strcat(extra, argv[++i]);
      strcat(extra, "\n");
    } else {
      urls++;
      failed |= fetch(method != NULL ? method : body != NULL ? "POST" : "GET", argv[i], extra, body);
    }
  }
  if (urls == 0) {
    fprintf(stderr, "usage: http-fetch [-X METHOD] [-H 'Name: value'] [-d DATA] URL...\n");
    return 2;
  }
  return failed;
}
