# ROS packages from PyPI carry the Python include path of the machine that built them in their imported targets, and CMake
# refuses targets that name a path which does not exist. Take such paths out. Does nothing in a normal installation.
get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS imported)
  get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(includes)
    list(FILTER includes EXCLUDE REGEX "^/opt/python/")
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${includes}")
  endif()
endforeach()
