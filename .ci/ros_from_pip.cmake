# What CMake refuses when ROS comes from PyPI wheels in a virtual environment. Does nothing in a normal installation.

# The wheels' imported targets carry the Python include path of the machine that built them, which does not exist here.
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS targets)
  get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(includes)
    list(FILTER includes EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includes}")
  endif()
endforeach()

# The generated Python extensions export the path of numpy's headers, which must not lie inside the sources, as .venv does.
get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
foreach(target IN LISTS targets)
  get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(includes)
    set(kept)
    foreach(path IN LISTS includes)
      cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${path}" inside)
      if(NOT inside)
        list(APPEND kept "${path}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endif()
endforeach()
