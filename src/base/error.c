/* SPDX-License-Identifier: Apache-2.0 */
#include "shoal/error.h"

const char *shoal_error_name(int error)
{
    switch (error) {
    case SHOAL_OK:
        return "OK";
#define ERROR_NAME(name, number, text)                                                             \
    case SHOAL_E_##name:                                                                           \
        return #name;
        SHOAL_ERRORS(ERROR_NAME)
#undef ERROR_NAME
    default:
        return "UNKNOWN";
    }
}

const char *shoal_error_text(int error)
{
    switch (error) {
    case SHOAL_OK:
        return "success";
#define ERROR_TEXT(name, number, text)                                                             \
    case SHOAL_E_##name:                                                                           \
        return text;
        SHOAL_ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        return "an error this version does not know";
    }
}
