/* Threads that change what a call looks at while it is answered. Run inside; the host looks at the files afterwards.
 *
 * Usage: race MODE COUNT. Every mode aims at `keep.txt` (protected) by way of what may be changed (`mine`), and prints
 * how often the attempt was let through (to `mine`, as it must be) and how often it was refused. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int stop;
static char path[16];
static struct { uint64_t flags, mode, resolve; } how;

/* The buffer that holds the path, after the monitor may have read it. */
static void *flip_path(void *unused) {
    (void)unused;
    while (!stop) {
        memcpy(path, "mine\0txt", 8);
        __asm__ volatile("" ::: "memory");
        memcpy(path, "keep.txt", 8);
        __asm__ volatile("" ::: "memory");
    }
    return NULL;
}

static void *flip_flags(void *unused) {
    (void)unused;
    while (!stop) {
        *(volatile uint64_t *)&how.flags = O_RDONLY;
        *(volatile uint64_t *)&how.flags = O_RDWR | O_TRUNC;
    }
    return NULL;
}

static void *swap_link(void *unused) {
    (void)unused;
    while (!stop) {
        symlink("keep.txt", "next");
        rename("next", "swapped");
        symlink("mine", "next");
        rename("next", "swapped");
    }
    return NULL;
}

static void *swap_parent(void *unused) {
    (void)unused;
    while (!stop) {
        symlink(".", "nextd");
        rename("nextd", "swappedd");
        symlink("other", "nextd");
        rename("nextd", "swappedd");
    }
    return NULL;
}

static void tally(int fd, long *through, long *refused) {
    if (fd < 0) {
        ++*refused;
        return;
    }
    /* Whatever was opened for writing gets the mark. */
    if (write(fd, "EVIL\n", 5) == 5) ++*through;
    close(fd);
}

int main(int argc, char **argv) {
    long count = argc > 2 ? atol(argv[2]) : 1000, through = 0, refused = 0;
    const char *mode = argc > 1 ? argv[1] : "";
    pthread_t other;
    void *(*rival)(void *) = !strcmp(mode, "path") ? flip_path : !strcmp(mode, "flags") ? flip_flags
                           : !strcmp(mode, "link") ? swap_link : !strcmp(mode, "parent") ? swap_parent : NULL;
    if (!rival) return 64;
    strcpy(path, "keep.txt");
    pthread_create(&other, NULL, rival, NULL);
    for (long n = 0; n < count; n++) {
        if (rival == flip_path) {
            tally(open(path, O_WRONLY | O_TRUNC), &through, &refused);
        } else if (rival == flip_flags) {
            tally((int)syscall(437, AT_FDCWD, "keep.txt", &how, sizeof how), &through, &refused);
            tally((int)syscall(437, AT_FDCWD, "mine", &how, sizeof how), &through, &refused);
        } else if (rival == swap_link) {
            tally(open("swapped", O_WRONLY | O_TRUNC), &through, &refused);
            chmod("swapped", 0777);
        } else {
            tally(open("swappedd/keep.txt", O_WRONLY | O_TRUNC), &through, &refused);
            truncate("swappedd/keep.txt", 1);
            rename("mine2", "swappedd/keep.txt");
        }
    }
    stop = 1;
    pthread_join(other, NULL);
    printf("%ld %ld\n", through, refused);
    return 0;
}
