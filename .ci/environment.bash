# Sourced from the repository's root: the virtual environment, its ROS 2 and, once built, this package. Leaves no trace of any other
# ROS installation or workspace the shell may have had.
unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH PYTHONHOME ROS_DISTRO
if [ ! -f .venv/bin/activate ]; then
  echo "no .venv here: run 'make build' first, and source this from the root of the repository" >&2
  return 1
fi
. .venv/bin/activate
export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
if [ -f install/.built ]; then
  . install/local_setup.bash
fi
