/* What the tests of the launch emulator share. Tests look into device memory, which is the host's there. */
#ifndef SD_T_EMULATOR_H
#define SD_T_EMULATOR_H

#include "../../gpu/kernel.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static cudaStream_t stream;
inline const char *const orders[] = {"forward", "backward", "shuffle:1", "shuffle:12345"};

/* Device memory of count items. */
template <typename T> static T *device(size_t count)
{
    T *p;
    return cudaMalloc(&p, count * sizeof *p) ? nullptr : p;
}

/* Leaves which block ran last. */
inline __global__ void block_order_kernel(int *y)
{
    *y = int(blockIdx.x);
}

/* Runs f in a child; true when it ended badly with text on standard error, or well if text is NULL. */
static inline bool child(void (*f)(void), const char *text)
{
    static char said[1 << 16];
    int fd[2], status;
    size_t n = 0;
    fflush(stdout);
    if (pipe(fd))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 2);
        close(fd[0]);
        f();
        fflush(stderr);
        _exit(0);
    }
    close(fd[1]);
    for (ssize_t got; (got = read(fd[0], said + n, sizeof said - 1 - n)) > 0;)
        n += size_t(got);
    close(fd[0]);
    said[n] = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    bool good = text ? status && strstr(said, text) : !status;
    if (!good)
        fprintf(stderr, "# status %d, expected '%s', got: %s\n", status, text ? text : "", said);
    return good;
}

#endif
