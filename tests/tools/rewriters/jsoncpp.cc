#include <iostream>
#include <json/json.h>

int main() {
    Json::Value json;
    std::cin >> json;
    std::cout << json;
}
