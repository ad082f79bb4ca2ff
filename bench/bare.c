/*
 * Owns the limit that the benchmarks compare with: about the least that a server of one thread a client can do. It takes
 * what has come, does each request by one pread or pwrite, and sends the replies in one piece. It is no server for
 * anything else: no bitmap, no journal, nothing checked, and what is written goes to a file that is never read.
 *
 *   bare SOCKET|PORT BASE WRITES    a path listens on a unix socket, a number on 127.0.0.1
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { IN_BYTES = 36 << 20, OUT_BYTES = 36 << 20, CHUNK = 1 << 20, SEND_FROM = 256 << 10 };

static int base_fd, write_fd;
static uint64_t base_bytes;

static void put(unsigned char *to, int bytes, uint64_t value) {
  while (bytes--) to[bytes] = value, value >>= 8;
}

static uint64_t get(const unsigned char *from, int bytes) {
  uint64_t value = 0;
  while (bytes--) value = value << 8 | *from++;
  return value;
}

static void receive_all(int fd, unsigned char *to, size_t length) {
  while (length) {
    ssize_t got = recv(fd, to, length, 0);
    if (got <= 0) exit(0);
    to += got;
    length -= got;
  }
}

static void send_all(int fd, const unsigned char *from, size_t length) {
  while (length) {
    ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
    if (sent <= 0) exit(0);
    from += sent;
    length -= sent;
  }
}

static void send_option_reply(int fd, uint32_t option, uint32_t type, const unsigned char *data, uint32_t length) {
  unsigned char reply[64];
  put(reply, 8, 0x3e889045565a9);
  put(reply + 8, 4, option);
  put(reply + 12, 4, type);
  put(reply + 16, 4, length);
  if (length) memcpy(reply + 20, data, length);
  send_all(fd, reply, 20 + length);
}

static void shake_hands(int fd) {
  unsigned char bytes[4096], info[12] = {0};
  memcpy(bytes, "NBDMAGICIHAVEOPT\0\3", 18);
  send_all(fd, bytes, 18);
  receive_all(fd, bytes, 4);
  for (;;) {
    receive_all(fd, bytes, 16);
    uint32_t option = get(bytes + 8, 4), length = get(bytes + 12, 4);
    if (length > sizeof bytes) exit(1);
    receive_all(fd, bytes, length);
    if (option == 2) exit(0);
    if (option != 6 && option != 7) {
      send_option_reply(fd, option, 0x80000001, NULL, 0);
      continue;
    }
    put(info + 2, 8, base_bytes);
    put(info + 10, 2, 0x105); /* has flags, flush, several connections */
    send_option_reply(fd, option, 3, info, sizeof info);
    send_option_reply(fd, option, 1, NULL, 0);
    if (option == 7) return;
  }
}

static void serve(int fd) {
  unsigned char *in = malloc(IN_BYTES), *out = malloc(OUT_BYTES);
  size_t have = 0;
  shake_hands(fd);
  for (;;) {
    ssize_t got = recv(fd, in + have, CHUNK, 0);
    if (got <= 0) exit(0);
    have += got;
    size_t at = 0, filled = 0;
    while (have - at >= 28) {
      const unsigned char *request = in + at;
      int command = get(request + 6, 2);
      uint64_t offset = get(request + 16, 8);
      uint32_t length = get(request + 24, 4);
      if (command == 2 || length > 32 << 20) exit(0);
      if (command == 1 && have - at < 28ull + length) {
        receive_all(fd, in + have, 28ull + length - (have - at));
        have = at + 28 + length;
      }
      if (filled + 16 + length > OUT_BYTES) {
        send_all(fd, out, filled);
        filled = 0;
      }
      put(out + filled, 8, 0x6744669800000000ull);
      memcpy(out + filled + 8, request + 8, 8);
      filled += 16;
      at += 28;
      if (command == 0) {
        if (pread(base_fd, out + filled, length, offset) < 0) exit(1);
        filled += length;
      } else if (command == 1) {
        if (pwrite(write_fd, request + 28, length, offset) < 0) exit(1);
        at += length;
      } else if (command == 3) {
        fdatasync(write_fd);
      }
      if (filled >= SEND_FROM) {
        send_all(fd, out, filled);
        filled = 0;
      }
    }
    if (filled) send_all(fd, out, filled);
    memmove(in, in + at, have - at);
    have -= at;
  }
}

static int listen_on(const char *where) {
  int fd, one = 1;
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr *address = (struct sockaddr *)&local;
  socklen_t length = sizeof local;
  if (strchr(where, '/')) {
    strncpy(local.sun_path, where, sizeof local.sun_path - 1);
  } else {
    inet.sin_port = htons(atoi(where));
    address = (struct sockaddr *)&inet;
    length = sizeof inet;
  }
  fd = socket(address->sa_family, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, address, length) || listen(fd, 128)) {
    perror(where);
    exit(1);
  }
  return fd;
}

int main(int count, char **args) {
  struct stat stat;
  int one = 1;
  if (count != 4) return 1;
  signal(SIGCHLD, SIG_IGN);
  base_fd = open(args[2], O_RDONLY);
  write_fd = open(args[3], O_RDWR | O_CREAT, 0600);
  if (base_fd < 0 || write_fd < 0 || fstat(base_fd, &stat)) {
    perror(args[2]);
    return 1;
  }
  base_bytes = stat.st_size;
  for (int listener = listen_on(args[1]);;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fork() == 0) {
      close(listener);
      serve(fd);
    }
    close(fd);
  }
}
