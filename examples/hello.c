/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest program: put a blob by name, get it back, remove it. */
#include <stdio.h>
#include <string.h>

#include <shoal/shoal.h>

int main(int argc, char **argv)
{
    const char *pool = argc > 1 ? argv[1] : "durable";
    const char greeting[] = "Hello from a shoal of six.";
    char back[64];
    size_t got;
    struct shoal *shoal;

    if (shoal_open(NULL, NULL, &shoal) != 0) {
        fprintf(stderr, "hello: %s\n", shoal_message());
        return 1;
    }
    int failed = shoal_put(shoal, pool, "examples/hello", greeting, strlen(greeting)) != 0 ||
                 shoal_get(shoal, pool, "examples/hello", back, sizeof back, &got) != 0 ||
                 shoal_remove(shoal, pool, "examples/hello") != 0;
    if (failed)
        fprintf(stderr, "hello: %s\n", shoal_message());
    else
        printf("%.*s\n", (int)got, back);
    shoal_close(shoal);
    return failed;
}
