"""The recipe and its test package without Conan, which is on few machines: a stand-in for the few names that they
import does what Conan 2 does to the files.

    python3 stand_in.py SOURCE SCRATCH COMPILER GENERATOR VERSION
"""
import importlib.util
import os
import shutil
import subprocess
import sys
import types

sys.dont_write_bytecode = True
source, scratch, compiler, generator, version = sys.argv[1:]


class Anything:
    """The settings, and the parts of a package that this check only looks at afterwards."""

    def __init__(self):
        self.properties = {}

    def set_property(self, name, value):
        self.properties[name] = value

    def clear(self):
        self.cleared = True


class ConanFile:
    def __init__(self, recipe_folder, build_folder, package_folder):
        self.recipe_folder = self.source_folder = recipe_folder
        self.build_folder = build_folder
        self.package_folder = package_folder
        self.variables = {}
        self.required = {}
        self.cpp = types.SimpleNamespace(build=types.SimpleNamespace(bindir=build_folder))
        self.cpp_info = Anything()
        self.info = Anything()

    def requires(self, reference, **traits):
        self.required[reference] = traits

    def run(self, command, env=None):
        assert env in (None, "conanrun"), env
        subprocess.run(command, shell=True, check=True)


class CMake:
    def __init__(self, conanfile):
        self.recipe = conanfile

    def configure(self, build_script_folder=""):
        recipe = self.recipe
        folder = os.path.join(recipe.source_folder, build_script_folder)
        variables = {"CMAKE_CXX_COMPILER": compiler, "CMAKE_BUILD_TYPE": "Release", **recipe.variables}
        variables["CMAKE_CXX_STANDARD"] = 20  # -s compiler.cppstd=20
        cmake("-G", generator, "-S", folder, "-B", recipe.build_folder, *(f"-D{k}={v}" for k, v in variables.items()))

    def build(self):
        cmake("--build", self.recipe.build_folder)

    def install(self):
        cmake("--install", self.recipe.build_folder, "--prefix", self.recipe.package_folder)


class CMakeToolchain:
    def __init__(self, conanfile):
        self.recipe = conanfile
        self.cache_variables = {}

    def generate(self):
        self.recipe.variables.update({name: "ON" if value else "OFF" for name, value in self.cache_variables.items()})


class CMakeDeps:
    """Eigen is the system's; what Conan writes for the package itself, `test_the_package` does."""

    def __init__(self, conanfile):
        pass

    def generate(self):
        pass


def cmake(*arguments):
    subprocess.run(["cmake", *arguments], check=True)


def copy(conanfile, pattern, src, dst):
    os.makedirs(dst, exist_ok=True)
    shutil.copy(os.path.join(src, pattern), dst)


def load(conanfile, path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def module(name, **names):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(names)


module("conan", ConanFile=ConanFile)
module("conan.tools")
module("conan.tools.build", check_min_cppstd=lambda conanfile, standard: None, can_run=lambda conanfile: True)
module("conan.tools.cmake", CMake=CMake, CMakeDeps=CMakeDeps, CMakeToolchain=CMakeToolchain,
       cmake_layout=lambda conanfile: None)
module("conan.tools.files", copy=copy, load=load, rmdir=lambda conanfile, path: shutil.rmtree(path))


def recipe_class(folder):
    specification = importlib.util.spec_from_file_location("recipe", os.path.join(folder, "conanfile.py"))
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    classes = [value for value in vars(recipe).values() if isinstance(value, type)]
    return next(value for value in classes if issubclass(value, ConanFile) and value is not ConanFile)


def export(recipe, folder):
    """The recipe sees what it exports, and nothing else of the checkout."""
    os.makedirs(folder)
    for name in ("conanfile.py", *(pattern.removesuffix("/*") for pattern in recipe.exports_sources)):
        whole = shutil.copytree if os.path.isdir(os.path.join(source, name)) else shutil.copy
        whole(os.path.join(source, name), os.path.join(folder, name))


def create(recipe, folder):
    made = recipe(folder, os.path.join(scratch, "build"), os.path.join(scratch, "package"))
    for step in ("set_version", "requirements", "layout", "validate", "generate", "build", "package", "package_id",
                 "package_info"):
        getattr(made, step)()
    return made


def test_the_package(recipe, package):
    made = recipe(os.path.join(source, package.test_package_folder), os.path.join(scratch, "test"), None)
    made.tested_reference_str = f"{package.name}/{package.version}"
    assert {"CMakeDeps", "CMakeToolchain"} == set(made.generators)
    config = os.path.join(scratch, "richflow-config.cmake")
    assert package.cpp_info.properties["cmake_file_name"] == "richflow"
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"""find_package(Eigen3 REQUIRED NO_MODULE)
add_library({package.cpp_info.properties["cmake_target_name"]} INTERFACE IMPORTED)
set_target_properties({package.cpp_info.properties["cmake_target_name"]} PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "{package.package_folder}/include" INTERFACE_LINK_LIBRARIES Eigen3::Eigen)
""")
    made.variables["richflow_DIR"] = scratch
    for step in ("requirements", "layout", "build", "test"):
        getattr(made, step)()


shutil.rmtree(scratch, ignore_errors=True)
exported = os.path.join(scratch, "export")
export(recipe_class(source), exported)
package = create(recipe_class(exported), exported)
assert package.version == version, f"the recipe reads version {package.version}, and the project's is {version}"
assert list(package.required) == ["eigen/[>=3.4.0 <6]"] and package.required["eigen/[>=3.4.0 <6]"]["transitive_headers"]
assert package.info.cleared, "one package for all settings"
assert sorted(os.listdir(package.package_folder)) == ["include", "licenses"], os.listdir(package.package_folder)
assert not package.cpp_info.libdirs and not package.cpp_info.bindirs
test_the_package(recipe_class(os.path.join(source, package.test_package_folder)), package)
