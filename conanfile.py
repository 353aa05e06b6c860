# Conan 2: conan create . --build=missing -s compiler.cppstd=20
# The headers; the library richflow::compiled is for those who build with CMake.
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir


class RichflowConan(ConanFile):
    name = "richflow"
    description = "Kernel and rich regimes of gradient flow: integrate the flow or solve for its limit"
    license = "MIT"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    exports_sources = "CMakeLists.txt", "LICENSE", "include/*"
    test_package_folder = "tests/packaging/conan"

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "include", "richflow", "version.hpp"))
        numbers = re.findall(r"^#define RICHFLOW_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE)
        self.version = ".".join(numbers)

    def requirements(self):
        self.requires("eigen/[>=3.4.0 <6]", transitive_headers=True)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for part in ("BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_BENCHMARKS", "BUILD_COMPILED", "MPI"):
            toolchain.cache_variables[f"RICHFLOW_{part}"] = False
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        # Conan writes the files for find_package and pkg-config itself.
        rmdir(self, os.path.join(self.package_folder, "lib"))
        rmdir(self, os.path.join(self.package_folder, "share"))

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "richflow")
        self.cpp_info.set_property("cmake_target_name", "richflow::richflow")
        self.cpp_info.set_property("pkg_config_name", "richflow")
