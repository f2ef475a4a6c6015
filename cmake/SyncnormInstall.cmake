# The installed CMake package.
