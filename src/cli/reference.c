/* SPDX-License-Identifier: Apache-2.0 */
/* Prints docs/config.md; not installed. */
#include <stdio.h>

#include "client/client.h"
#include "shoald/shoald.h"

int main(void)
{
    printf("# Configuration files\n\n"
           "Made from the tables in the code by `scripts/lib/make-config-doc`; a test of the suite\n"
           "`quick` checks that it is up to date. Sizes may end in K, M, G, T (powers of 1024); times in\n"
           "us, ms, s, m, h, d, and are seconds without. What is not in the table is refused, with its "
           "line.\n\n"
           "## node.yaml\n\n"
           "What a storage node reads: `shoald --config node.yaml`. `shoald --check-config` reads it, "
           "looks at\nwhat it names, says what is wrong and starts nothing. It is read once, at the "
           "start; certificates are\nread again whenever their files change.\n\n```yaml\n");
    shoald_config_reference(stdout);
    printf("```\n\n## client.yaml\n\n"
           "What clients read, through `--config`, `SHOAL_CONFIG`, or the cluster that `shoal up` "
           "started last.\nPaths are relative to the file.\n\n```yaml\n");
    client_file_reference(stdout);
    printf("```\n");
    return ferror(stdout) != 0;
}
