/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one list of errors of Shoal.
 *
 * Functions return 0 (or a count) on success and a negative SHOAL_E_* on failure. The same numbers,
 * made positive, travel on the wire as the status of a reply, so a number is never given a new
 * meaning and never reused. Thread safe: everything here is constant.
 */
#ifndef SHOAL_ERROR_H
#define SHOAL_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, number, what a person is told). */
#define SHOAL_ERRORS(X)                                                                            \
    X(NOT_FOUND, 1, "no such blob")                                                                \
    X(EXISTS, 2, "the blob exists already")                                                        \
    X(CHANGED, 3, "the blob was replaced while it was read")                                       \
    X(CONDITION, 4, "the condition on the blob's version does not hold")                           \
    X(UNAVAILABLE, 5, "too few members of the blob's target set are reachable")                    \
    X(BUSY, 6, "the peer has no room for another request now")                                     \
    X(TIMEOUT, 7, "the deadline passed")                                                           \
    X(CANCELLED, 8, "the request was cancelled")                                                   \
    X(FULL, 9, "no space left on the target")                                                      \
    X(QUOTA, 10, "the pool's quota is used up")                                                    \
    X(TOO_LARGE, 11, "larger than the limit")                                                      \
    X(INVALID, 12, "malformed request or argument")                                                \
    X(DENIED, 13, "not permitted for this certificate")                                            \
    X(CORRUPT, 14, "the data does not match its checksum")                                         \
    X(IO, 15, "the device failed")                                                                 \
    X(NO_MEMORY, 16, "out of memory")                                                              \
    X(CONNECTION, 17, "the connection could not be made or was lost")                              \
    X(STALE_EPOCH, 18, "the request carries an older cluster map")                                 \
    X(NEWER_EPOCH, 19, "the request carries a newer cluster map than this node has")               \
    X(NOT_PRIMARY, 20, "this target is not the primary of the partition")                          \
    X(NOT_SERVING, 21, "the target is not serving yet")                                            \
    X(NO_POOL, 22, "no such pool")                                                                 \
    X(VERSION, 23, "the peer speaks another version of the protocol")                              \
    X(FORMAT, 24, "the device holds no Shoal format, or a newer one")                              \
    X(UNSUPPORTED, 25, "not supported here")                                                       \
    X(SHUTDOWN, 26, "shutting down")                                                               \
    X(HOLLOW, 27, "the record of the blob is valid but its payload is damaged")                    \
    X(LOW_WATER, 28, "a newer version of the blob was seen before this one")                       \
    X(SYSTEM, 29, "the operating system refused")                                                  \
    X(CONFIG, 30, "the configuration is not valid")                                                \
    X(PREPARED, 31, "a newer version is prepared and its fate is not known yet")

enum shoal_error {
    SHOAL_OK = 0,
#define SHOAL_ERROR_ENUM(name, number, text) SHOAL_E_##name = -(number),
    SHOAL_ERRORS(SHOAL_ERROR_ENUM)
#undef SHOAL_ERROR_ENUM
};

/*
 * shoal_error_name() - The error's symbol, such as "NOT_FOUND"; "OK" for 0.
 * @error: 0 or a negative SHOAL_E_*; anything else gives "UNKNOWN".
 */
const char *shoal_error_name(int error);

/*
 * shoal_error_text() - One sentence, lower case, no full stop, for a person.
 */
const char *shoal_error_text(int error);

#ifdef __cplusplus
}
#endif

#endif
