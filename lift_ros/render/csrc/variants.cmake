# A shared library for each instruction set, chosen at load: lift_add_variants(<name> <destination> <sources>...) adds
# the targets <name>_baseline and, on x86-64, <name>_x86_64_v3 and <name>_x86_64_v4, and installs them.
find_package(Threads REQUIRED)

function(lift_add_variant target destination option)
  add_library(${target} SHARED ${ARGN})
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  target_compile_features(${target} PRIVATE cxx_std_17)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  # Only the parts of -ffast-math that leave the order of operations and NaN alone: reassociation swaps nearly equal
  # depths, and -ffast-math on the link line would turn off subnormals in the whole process.
  target_compile_options(${target} PRIVATE
    -O3 -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math -fno-signed-zeros -ffp-contract=fast ${option})
  target_link_libraries(${target} PRIVATE Threads::Threads)
  install(TARGETS ${target} LIBRARY DESTINATION ${destination})
endfunction()

function(lift_add_variants name destination)
  lift_add_variant(${name}_baseline ${destination} "" ${ARGN})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
    lift_add_variant(${name}_x86_64_v3 ${destination} -march=x86-64-v3 ${ARGN})
    lift_add_variant(${name}_x86_64_v4 ${destination} -march=x86-64-v4 ${ARGN})
  endif()
endfunction()
