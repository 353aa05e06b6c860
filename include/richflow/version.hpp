#pragma once

/// @file
/// Version of the library; the build system reads these three lines.

#define RICHFLOW_VERSION_MAJOR 0
#define RICHFLOW_VERSION_MINOR 2
#define RICHFLOW_VERSION_PATCH 0
