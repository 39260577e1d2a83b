/* lib/base/atomic: a file is there whole or not at all, whatever ends the program. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/filemap.h"
#include "tap.h"

static int holds(const char *path, const char *text)
{
    struct sd_filemap m;
    struct sd_err err;
    if (sd_filemap_open(&m, path, &err))
        return 0;
    int same = m.size == strlen(text) && !memcmp(m.data, text, m.size);
    sd_filemap_close(&m);
    return same;
}

/* Entries of the current folder, hidden ones too. */
static int files(void)
{
    int n = 0;
    DIR *d = opendir(".");
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (d)
        closedir(d);
    return n;
}

/* A child that has written 8 MiB to path and then dies by SIGKILL. */
static int killed_while_writing(const char *path)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        static char zeros[1 << 20];
        struct sd_atomic *a;
        if (sd_atomic_open(&a, path, NULL))
            _exit(1);
        for (int i = 0; i < 8; i++)
            sd_atomic_write(a, zeros, sizeof zeros, NULL);
        kill(getpid(), SIGKILL);
    }
    int status;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static void test_whole(void)
{
    struct sd_err err = {0};
    struct stat st;
    ok(!sd_atomic_put("new", "one", 3, &err) && holds("new", "one") && files() == 1, "a new file");
    ok(!chmod("new", 0640) && !sd_atomic_put("new", "two", 3, &err) && holds("new", "two") && files() == 1,
       "replaces a file");
    ok(!stat("new", &st) && (st.st_mode & 07777) == 0640, "and keeps its permissions");
    ok(!symlink("new", "link") && !sd_atomic_put("link", "three", 5, &err) && holds("new", "three") &&
           !lstat("link", &st) && S_ISLNK(st.st_mode),
       "follows a symbolic link");
    unlink("link");
    ok(!sd_atomic_put("empty", "", 0, &err) && holds("empty", ""), "an empty file");
    unlink("empty");
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    ok(!sd_atomic_put(name, "x", 1, &err) && !sd_atomic_put(name, "y", 1, &err) && holds(name, "y") &&
           files() == 2,
       "the longest name a file system takes");
    unlink(name);
}

static void test_nothing(void)
{
    struct sd_err err = {0};
    struct sd_atomic *a;
    ok(!sd_atomic_open(&a, "gone", &err) && !sd_atomic_write(a, "x", 1, &err) && sd_atomic_size(a) == 1,
       "written to");
    sd_atomic_discard(&a);
    ok(!a && files() == 1, "and discarded leaves nothing");
    sd_atomic_discard(&a);
    ok(killed_while_writing("gone") && files() == 1, "killed while writing a new file leaves nothing");
    ok(killed_while_writing("new") && files() == 1 && holds("new", "three"), "or the file that was there");
}

static void test_failures(void)
{
    struct sd_err err = {0};
    struct sd_atomic *a;
    ok(sd_atomic_open(&a, "no/where", &err) && !a && err.code == SD_ERR_DATA &&
           !strncmp(err.msg, "no/where: ", 10),
       "no folder");
    ok(sd_atomic_put(".", "x", 1, &err) && strstr(err.msg, "Is a directory"), "a folder");
    ok(sd_atomic_put("/dev/full", "x", 1, &err) && err.code == SD_ERR_MACHINE &&
           !strcmp(err.msg, "/dev/full: No space left on device"),
       "a full disk");
    struct stat st;
    ok(!sd_atomic_put("/dev/null", "x", 1, &err) && !stat("/dev/null", &st) && S_ISCHR(st.st_mode),
       "a device stays a device");
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/sd-atomic-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder) || chdir(folder)) {
        perror(folder);
        return 1;
    }
    test_whole();
    test_nothing();
    test_failures();
    unlink("new");
    ok(!rmdir(folder), "nothing else was left behind");
    return tap_end();
}
