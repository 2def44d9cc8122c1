/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cmocka with two thin macros that add the row's name to a failure.
 *
 *   EXPECT(cond, fmt, ...)        the condition holds
 *   EXPECT_EQ(got, want, fmt, ...) two integers are equal
 *
 * The text after the condition names the row or the seed; it may be left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define EXPECT(cond, ...)                                                      \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: expected %s;", __FILE__, __LINE__,        \
                    #cond);                                                    \
            fprintf(stderr, " " __VA_ARGS__);                                   \
            fputc('\n', stderr);                                               \
            fail();                                                            \
        }                                                                      \
    } while (0)

#define EXPECT_EQ(got, want, ...)                                              \
    do {                                                                       \
        long long got_ = (long long)(got), want_ = (long long)(want);          \
        if (got_ != want_) {                                                   \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld;", __FILE__,    \
                    __LINE__, #got, got_, want_);                              \
            fprintf(stderr, " " __VA_ARGS__);                                   \
            fputc('\n', stderr);                                               \
            fail();                                                            \
        }                                                                      \
    } while (0)
