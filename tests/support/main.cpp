// The test runner, compiled once. It owns main() so that the same file serves Catch2 versions 2 and 3.

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 with sanitizers takes std::regex, which Catch2's runner uses, for uninitialized.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

int main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
