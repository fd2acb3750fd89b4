include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(dir ${CMAKE_INSTALL_DATAROOTDIR}/cmake/lowrank)
install(TARGETS lowrank EXPORT lowrankTargets FILE_SET HEADERS)
install(EXPORT lowrankTargets NAMESPACE lowrank:: DESTINATION ${dir})
configure_package_config_file(cmake/lowrankConfig.cmake.in lowrankConfig.cmake INSTALL_DESTINATION ${dir})
write_basic_package_version_file(lowrankConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/lowrankConfig.cmake ${PROJECT_BINARY_DIR}/lowrankConfigVersion.cmake cmake/cuda.cmake
        DESTINATION ${dir})
